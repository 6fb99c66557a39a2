package api

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/fixture"
)

// upload is a request whose body is sent in chunks while its answer is awaited.
type upload struct {
	conn     net.Conn
	answered chan answer
}

// startUpload sends the header of an upload.
func (s *harness) startUpload(path, key string) upload {
	s.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	s.Must(err)
	s.Cleanup(func() { _ = conn.Close() })
	_, err = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n", path, key, csvType)
	s.Must(err)
	u := upload{conn, make(chan answer, 1)}
	go func() {
		req, _ := http.NewRequest("POST", path, nil)
		resp, err := http.ReadResponse(bufio.NewReader(conn), req)
		if err != nil {
			u.answered <- answer{&http.Response{Request: req}, []byte(err.Error())}
			return
		}
		text, _ := io.ReadAll(resp.Body)
		u.answered <- answer{resp, text}
	}()
	return u
}

// longStall is a header and enough empty lines for the upload to be allowed a long stall.
var longStall = "application_id\n" + strings.Repeat("\n", 30<<10)

func (u upload) send(text string) { _, _ = fmt.Fprintf(u.conn, "%x\r\n%s\r\n", len(text), text) }

func (u upload) end() { _, _ = io.WriteString(u.conn, "0\r\n\r\n") }

// sendUntilAnswered sends rows until the answer arrives.
func (u upload) sendUntilAnswered() answer {
	u.send("application_id\n")
	for n := 0; ; n++ {
		select {
		case a := <-u.answered:
			return a
		default:
			u.send(fmt.Sprintf("E-%d\n", n))
		}
	}
}

func TestUploads_AreLimitedPerKeyAndInTotal(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	s.api.imports.PerKey, s.api.imports.Total = 2, 3
	begin := func(n int, key string) upload {
		before := s.api.imports.InProgress()
		u := s.startUpload(fmt.Sprintf("/v1/batches?batch=%d", n), key)
		u.send(longStall)
		s.Eventually("the upload begins", func() bool { return s.api.imports.InProgress() == before+1 })
		return u
	}
	first := begin(1, allScopes)
	begin(2, allScopes)
	refuse := func(n int, key string, status int, reason string) {
		t.Helper()
		a := s.expect(s.send("POST", fmt.Sprintf("/v1/batches?batch=%d", n), "application_id\nB-1\n", "Content-Type", csvType, "Authorization", "Bearer "+key), status, reason)
		if a.Header.Get("Retry-After") == "" {
			t.Error("Retry-After is missing")
		}
	}
	refuse(3, allScopes, http.StatusTooManyRequests, "rate_limited")
	begin(4, "enqueue")
	refuse(5, "enqueue", http.StatusServiceUnavailable, "unavailable")
	first.send("B-1\n")
	first.end()
	s.expect(<-first.answered, http.StatusOK, "")
	s.Eventually("the first upload has ended", func() bool { return s.api.imports.InProgress() == 2 })
	s.expect(s.send("POST", "/v1/batches?batch=6", "application_id\nB-6\n", "Content-Type", csvType), http.StatusOK, "")
}

func TestExports_AreLimitedPerKey(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	s.expect(s.send("POST", "/v1/batches?batch=b", "application_id\nB-1\n", "Content-Type", csvType), http.StatusOK, "")
	s.api.exports.PerKey = 1
	s.Must(s.api.exports.Begin(apikey.Key{ID: "id of " + allScopes}))
	s.expect(s.send("GET", "/v1/batches/b/export", ""), http.StatusTooManyRequests, "rate_limited")
	s.api.exports.End(apikey.Key{ID: "id of " + allScopes})
	s.expect(s.send("GET", "/v1/batches/b/export", ""), http.StatusOK, "")
}

// An upload that stalls does not block other uploads to the batch before its first row,
// and not for long afterwards.
func TestUpload_EndsWhenItStalls(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	slow := s.startUpload("/v1/batches?batch=b", allScopes)
	slow.send("application_id")
	s.Eventually("the upload begins", func() bool { return s.api.imports.InProgress() == 1 })
	s.expect(s.send("POST", "/v1/batches?batch=b", "application_id\nB-1\n", "Content-Type", csvType), http.StatusOK, "")
	s.expect(<-slow.answered, http.StatusRequestTimeout, "request_timeout")
}

func TestUpload_EndsAfterTheTransferTimeout(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	s.api.transferTimeout = 500 * time.Millisecond
	a := s.expect(s.startUpload("/v1/batches?batch=b", allScopes).sendUntilAnswered(), http.StatusRequestTimeout, "request_timeout")
	if !strings.Contains(string(a.body), "send the same body again to continue") {
		t.Errorf("got %s, want advice to send the body again", a.body)
	}
}

// revocable accepts the same keys as keys until revoked is true.
type revocable struct {
	keys
	revoked *atomic.Bool
}

func (r revocable) Verify(ctx context.Context, presented string) (apikey.Key, error) {
	if r.revoked.Load() {
		return apikey.Key{}, apikey.ErrUnknown
	}
	return r.keys.Verify(ctx, presented)
}

func TestRevocation_EndsUploadsAndWaitsUnderWay(t *testing.T) {
	t.Parallel()
	var revoked atomic.Bool
	s := newHarnessOn(t, fixture.Redis(), func(c *Config) { c.Keys, c.MaxBody = revocable{revoked: &revoked}, 32<<20 })
	var all sync.WaitGroup
	all.Go(func() {
		a := s.startUpload("/v1/batches?batch=b", allScopes).sendUntilAnswered()
		if a.reason() != "unauthorized" || !strings.Contains(string(a.body), "was revoked") {
			t.Errorf("an active upload ended with %s, want unauthorized", a.body)
		}
	})
	stalled := s.startUpload("/v1/batches?batch=c", allScopes)
	stalled.send(longStall)
	all.Go(func() {
		if a := <-stalled.answered; a.reason() != "unauthorized" {
			t.Errorf("a stalled upload ended with %s, want unauthorized", a.body)
		}
	})
	all.Go(func() {
		a := s.send("POST", "/v1/links", `{"application_id":"A-1"}`, "Prefer", "wait=30")
		if a.StatusCode != http.StatusUnauthorized {
			t.Errorf("a wait ended with %d %s, want 401", a.StatusCode, a.body)
		}
	})
	s.Eventually("both uploads and the wait have begun", func() bool {
		s.api.stream.mu.Lock()
		defer s.api.stream.mu.Unlock()
		return s.api.imports.InProgress() == 2 && len(s.api.stream.waiting) == 1
	})
	revoked.Store(true)
	all.Wait()
}
