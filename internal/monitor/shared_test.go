package monitor

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/kyclink/kyclink/internal/account"
)

// hanging is an account whose Redis accepts connections and does not answer.
type hanging struct{ reads atomic.Int32 }

func (h *hanging) Gauges(ctx context.Context) (account.Gauges, error) {
	h.reads.Add(1)
	<-ctx.Done()
	return account.Gauges{}, ctx.Err()
}

func (h *hanging) WriteError() error { return nil }

// While Redis hangs, one read serves all scrapes, and no scrape waits longer than the limit.
func TestServer_LimitsScrapesWhileRedisHangs(t *testing.T) {
	for path, want := range map[string]struct {
		answered, status int
		within           time.Duration
		warned           bool
	}{
		"/metrics": {scrapesAtOnce, http.StatusOK, readWithin, true},
	} {
		t.Run(path, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				core, logs := observer.New(zap.InfoLevel)
				var redis hanging
				handler := New(Config{Name: "default", Account: &redis, Diagnose: fakeAccount{}.diagnose, Version: "v1", Log: zap.NewNop(), Limited: zap.New(core)}).handler(alwaysReady)
				began := time.Now()
				var all sync.WaitGroup
				var late, refused atomic.Int32
				for range 20 {
					all.Go(func() {
						w := httptest.NewRecorder()
						handler.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
						switch {
						case time.Since(began) == 0 && w.Code == http.StatusServiceUnavailable:
							refused.Add(1)
						case time.Since(began) == want.within && w.Code == want.status:
							late.Add(1)
						default:
							t.Errorf("got %d after %s: %s", w.Code, time.Since(began), w.Body)
						}
					})
				}
				all.Wait()
				if n := redis.reads.Load(); n != 1 || int(late.Load()) != want.answered || int(late.Load()+refused.Load()) != 20 {
					t.Errorf("got %d reads, %d late answers and %d refusals; want 1, %d and the rest of 20", n, late.Load(), refused.Load(), want.answered)
				}
				warned := logs.FilterLevelExact(zapcore.WarnLevel).Len() > 0
				if warned != want.warned || warned && !strings.Contains(logs.All()[0].Message, "read the account") {
					t.Errorf("got log lines %+v, want a warning: %t", logs.All(), want.warned)
				}
			})
		})
	}
}
