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

// uncancellable is an audit trail that ignores its context, as pipelined commands do.
type uncancellable struct{ Audit }

func (d uncancellable) Append(_ context.Context, c audit.Change) error {
	return d.Audit.Append(context.Background(), c)
}

// An answer to a request that changes something says that the change may have been made.
func TestAPI_AnswersInTimeWhileRedisHangs(t *testing.T) {
	t.Parallel()
	own := redistest.Start(t)
	// The client's timeout is longer than the test, so that only the API's own limits end its commands.
	rdb := redis.NewClient(&redis.Options{Addr: own.Addr, ContextTimeoutEnabled: true, ReadTimeout: 10 * time.Minute})
	t.Cleanup(func() { _ = rdb.Close() })
	s := newHarnessOn(t, own, func(c *Config) {
		account := c.Stores.Keys.Account
		c.Redis, c.Client = rdb, tasks.NewClient(rdb, tasks.Config{Account: account})
		c.Stores = storage.New(rdb, storage.Config{Fleet: fleet.Config{Account: account, Simulated: true}})
		c.Audit = uncancellable{audit.NewTrail(rdb, account)}
	})
	s.api.timeout = shortTimeout
	s.expect(s.send("POST", "/v1/batches?batch=b", "application_id\nB-1\nB-2\n", "Content-Type", csvType), http.StatusOK, "")
	s.expect(s.send("POST", "/v1/links", `{"application_id":"A-1"}`), http.StatusAccepted, "")

	body, rows := io.Pipe()
	writeRows := func(from int) {
		for i := range 150 {
			_, _ = fmt.Fprintf(rows, "C-%d\n", from+i)
		}
	}
	var all sync.WaitGroup
	hung := make(chan struct{})
	all.Go(func() {
		_, _ = io.WriteString(rows, "application_id\n")
		writeRows(0)
		<-hung
		writeRows(150)
		_ = rows.Close()
	})
	all.Go(func() {
		req, err := http.NewRequestWithContext(t.Context(), "POST", s.url+"/v1/batches?batch=c", body)
		s.Must(err)
		req.Header.Set("Authorization", "Bearer "+allScopes)
		req.Header.Set("Content-Type", csvType)
		resp, err := s.http.Transport.(validating).next.RoundTrip(req) // validating would read the body to its end first
		if err != nil {
			t.Errorf("an upload in progress: %v", err)
			return
		}
		text, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if a := (answer{resp, text}); a.reason() != "unavailable" || !strings.Contains(string(text), "send the same body again to continue") {
			t.Errorf("an upload in progress: got %d %s, want unavailable and advice to send the body again", resp.StatusCode, text)
		}
	})
	s.Eventually("the first row of the upload is accepted", func() bool { return s.Redis.Exists(t.Context(), s.ledger.Keys.Record("C-0")).Val() == 1 })
	s.Must(own.Client(t).Do(t.Context(), "CLIENT", "PAUSE", 60_000, "ALL").Err())
	close(hung)
	for _, r := range [][]string{
		{"GET", "/v1/links/A-1", ""}, {"DELETE", "/v1/links/A-1", ""}, {"POST", "/v1/links", `{"application_id":"A-1"}`},
		{"GET", "/v1/batches", ""}, {"GET", "/v1/batches/b", ""}, {"GET", "/v1/batches/b/export", ""}, {"POST", "/v1/batches/b/pause", ""},
		{"POST", "/v1/batches/b/resume", ""}, {"POST", "/v1/batches/b/cancel", ""}, {"POST", "/v1/batches/b/retry", ""},
		{"POST", "/v1/actions", `{"kind":"retry_failed","filter":{"all":true},"dry_run":true}`},
		{"GET", "/v1/account", ""}, {"POST", "/v1/account/pause", ""}, {"POST", "/v1/account/resume", ""},
		{"POST", "/v1/batches?batch=b", "application_id\nB-1\nB-2\n", "Content-Type", csvType},
	} {
		all.Go(func() {
			began := time.Now()
			a := s.send(r[0], r[1], r[2], r[3:]...)
			if took := time.Since(began); took > time.Minute {
				t.Errorf("%v took %v, want at most 1m", r[:2], took)
			}
			uncertain := strings.Contains(string(a.body), "the change may have been made") || strings.Contains(string(a.body), "accepted rows stay accepted")
			if a.StatusCode != http.StatusServiceUnavailable || uncertain != (r[0] != "GET" && r[1] != "/v1/actions") || !strings.Contains(string(a.body), "again") {
				t.Errorf("%v: got %d %s, want 503 that says whether the change may have been made", r, a.StatusCode, a.body)
			}
		})
	}
	answered := make(chan struct{})
	go func() { all.Wait(); close(answered) }()
	select {
	case <-answered:
	case <-time.After(2 * time.Minute):
		t.Error("some requests are not answered while Redis hangs")
	}
	own.Stop()
	<-answered
}
