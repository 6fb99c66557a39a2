package api

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/redistest"
)

// While the results stream cannot be read, a warning now and then says what to do.
func TestStream_WarnsNowAndThenOfARefusal(t *testing.T) {
	t.Parallel()
	own := redistest.Start(t)
	admin := own.Client(t)
	fixture.Must(t, admin.Do(t.Context(), "ACL", "SETUSER", "shop", "on", ">pw", "~*", "+@all", "-xrevrange").Err())
	rdb := redis.NewClient(&redis.Options{Addr: own.Addr, Username: "shop", Password: "pw", ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = rdb.Close() })
	core, logged := observer.New(zap.WarnLevel)
	s := newStream(rdb, "{kyclink:a}:results", zap.New(core))
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	began := time.Now()
	running.Go(func() { s.run(ctx) })
	fixture.Eventually(t, "several reads were refused", func() bool {
		refused, err := admin.ACLLog(t.Context(), 1).Result()
		return err == nil && len(refused) == 1 && refused[0].Count >= 5
	})
	stop()
	running.Wait()
	lines := logged.All()
	if most := 1 + int(time.Since(began)/streamWarning); len(lines) == 0 || len(lines) > most {
		t.Fatalf("got %d warnings, want 1 to %d", len(lines), most)
	}
	if text := lines[0].Message; !strings.Contains(text, "KYCLINK_ACCOUNT") || !strings.Contains(text, "docs/operations.md (Redis permissions)") {
		t.Errorf("the warning %q does not say what to do", text)
	}
}
