package api

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/audit"
	"github.com/kyclink/kyclink/internal/fleet"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/internal/storage"
	"github.com/kyclink/kyclink/tasks"
)

// deaf heeds no context, as commands that are sent together do not.
type deaf struct{ Audit }

func (d deaf) Append(_ context.Context, c audit.Change) error {
	return d.Audit.Append(context.Background(), c)
}

// While Redis takes what is sent and answers nothing, everybody is answered in time;
// and whoever wanted something changed is told that it may have been.
func TestRedisHangs(t *testing.T) {
	t.Parallel()
	own := redistest.Start(t)
	// Reads of this client last longer than the test: only the API's own limits end them.
	rdb := redis.NewClient(&redis.Options{Addr: own.Addr, ContextTimeoutEnabled: true, ReadTimeout: 10 * time.Minute})
	t.Cleanup(func() { _ = rdb.Close() })
	s := openAt(t, own, func(c *Config) {
		account := c.Ledger.Keys.Account
		c.Redis, c.Client = rdb, tasks.NewClient(rdb, tasks.Config{Account: account})
		c.Ledger = storage.New(rdb, storage.Config{Fleet: fleet.Config{Account: account, Simulated: true}})
		c.Audit = deaf{audit.NewTrail(rdb, account)}
	})
	s.expect(s.ask("POST", "/v1/batches?batch=b", "application_id\nB-1\nB-2\n", "Content-Type", csvType), http.StatusOK, "")
	s.expect(s.ask("POST", "/v1/links", `{"application_id":"A-1"}`), http.StatusAccepted, "")

	body, rows := io.Pipe()
	some := func(from int) {
		for i := range 150 {
			_, _ = fmt.Fprintf(rows, "C-%d\n", from+i)
		}
	}
	var all sync.WaitGroup
	hung := make(chan struct{})
	all.Go(func() {
		_, _ = io.WriteString(rows, "application_id\n")
		some(0)
		<-hung
		some(150)
		_ = rows.Close()
	})
	all.Go(func() {
		req, err := http.NewRequestWithContext(t.Context(), "POST", s.url+"/v1/batches?batch=c", body)
		s.Must(err)
		req.Header.Set("Authorization", "Bearer "+every)
		req.Header.Set("Content-Type", csvType)
		resp, err := s.http.Transport.(validating).next.RoundTrip(req) // validating reads it to its end first
		if err != nil {
			t.Errorf("an upload that had begun: %v", err)
			return
		}
		text, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if a := (answer{resp, text}); a.reason() != "unavailable" || !strings.Contains(string(text), "send the same body again to continue") {
			t.Errorf("an upload that had begun: %d %s", resp.StatusCode, text)
		}
	})
	s.Eventually("the upload has begun", func() bool { return s.Redis.Exists(t.Context(), s.ledger.Keys.Record("C-0")).Val() == 1 })
	s.Must(own.Client(t).Do(t.Context(), "CLIENT", "PAUSE", 60_000, "ALL").Err())
	close(hung)
	for _, r := range [][]string{
		{"GET", "/v1/links/A-1", ""}, {"DELETE", "/v1/links/A-1", ""}, {"POST", "/v1/links", `{"application_id":"A-1"}`},
		{"GET", "/v1/batches", ""}, {"GET", "/v1/batches/b", ""}, {"GET", "/v1/batches/b/export", ""}, {"POST", "/v1/batches/b/pause", ""},
		{"POST", "/v1/batches/b/resume", ""}, {"POST", "/v1/batches/b/cancel", ""}, {"POST", "/v1/batches/b/retry", ""},
		{"GET", "/v1/account", ""}, {"POST", "/v1/account/pause", ""}, {"POST", "/v1/account/resume", ""},
		{"POST", "/v1/batches?batch=b", "application_id\nB-1\nB-2\n", "Content-Type", csvType},
	} {
		all.Go(func() {
			asked := time.Now()
			a := s.ask(r[0], r[1], r[2], r[3:]...)
			if took := time.Since(asked); took > time.Minute {
				t.Errorf("%v took %v", r[:2], took)
			}
			doubt := strings.Contains(string(a.body), "the change may have been made") || strings.Contains(string(a.body), "accepted rows stay accepted")
			if a.StatusCode != http.StatusServiceUnavailable || doubt != (r[0] != "GET") || !strings.Contains(string(a.body), "again") {
				t.Errorf("%v is answered %d %s", r, a.StatusCode, a.body)
			}
		})
	}
	answered := make(chan struct{})
	go func() { all.Wait(); close(answered) }()
	select {
	case <-answered:
	case <-time.After(2 * time.Minute):
		t.Error("somebody waits as long as Redis hangs")
	}
	own.Stop()
	<-answered
}
