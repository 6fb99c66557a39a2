package api

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/fixture"
)

// upload is a body that is sent in chunks while its answer is waited for.
type upload struct {
	conn     net.Conn
	answered chan answer
}

func (s *harness) upload(path, key string) upload {
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

func (u upload) send(text string) { _, _ = fmt.Fprintf(u.conn, "%x\r\n%s\r\n", len(text), text) }

func (u upload) end() { _, _ = io.WriteString(u.conn, "0\r\n\r\n") }

// endless sends rows until the answer is there.
func (u upload) endless() answer {
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

func TestUploadsAtATime(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.api.imports.perKey, s.api.imports.most = 2, 3
	begin := func(n int, key string) upload {
		before := s.api.imports.under()
		u := s.upload(fmt.Sprintf("/v1/batches?batch=%d", n), key)
		s.Eventually("the upload begins", func() bool { return s.api.imports.under() == before+1 })
		return u
	}
	first := begin(1, every)
	begin(2, every)
	full := func(n int, key string, status int, reason string) {
		t.Helper()
		a := s.expect(s.ask("POST", fmt.Sprintf("/v1/batches?batch=%d", n), "application_id\nB-1\n", "Content-Type", csvType, "Authorization", "Bearer "+key), status, reason)
		if a.Header.Get("Retry-After") == "" {
			t.Error("it does not say when to come again")
		}
	}
	full(3, every, http.StatusTooManyRequests, "rate_limited")
	begin(4, "enqueue")
	full(5, "enqueue", http.StatusServiceUnavailable, "unavailable")
	first.send("application_id\nB-1\n")
	first.end()
	s.expect(<-first.answered, http.StatusOK, "")
	s.Eventually("the place is free", func() bool { return s.api.imports.under() == 2 })
	s.expect(s.ask("POST", "/v1/batches?batch=6", "application_id\nB-6\n", "Content-Type", csvType), http.StatusOK, "")
}

// under is how many are under way.
func (t *transfers) under() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.all
}

func TestExportsAtATime(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.expect(s.ask("POST", "/v1/batches?batch=b", "application_id\nB-1\n", "Content-Type", csvType), http.StatusOK, "")
	s.api.exports.perKey = 1
	s.Must(s.api.exports.begin(apikey.Key{ID: "id of " + every}))
	s.expect(s.ask("GET", "/v1/batches/b/export", ""), http.StatusTooManyRequests, "rate_limited")
	s.api.exports.end(apikey.Key{ID: "id of " + every})
	s.expect(s.ask("GET", "/v1/batches/b/export", ""), http.StatusOK, "")
}

// A few bytes keep a batch's name from others neither before there is a row, nor
// for long after.
func TestFewBytesKeepNoName(t *testing.T) {
	t.Parallel()
	s := open(t)
	slow := s.upload("/v1/batches?batch=b", every)
	slow.send("application_id")
	s.Eventually("it begins", func() bool { return s.api.imports.under() == 1 })
	s.expect(s.ask("POST", "/v1/batches?batch=b", "application_id\nB-1\n", "Content-Type", csvType), http.StatusOK, "")
	s.expect(<-slow.answered, http.StatusRequestTimeout, "request_timeout")

	p := pace{firstStall}
	if p.moved(len("application_id\nA-1"), 0); p.left > firstStall+time.Second {
		t.Errorf("18 bytes are waited for %v", p.left)
	}
	if p.moved(1<<20, 0); p.left != maxStall {
		t.Errorf("after 1 MiB, %v are left", p.left)
	}
}

func TestAnUploadHasToEnd(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.api.transferTimeout = 500 * time.Millisecond
	a := s.expect(s.upload("/v1/batches?batch=b", every).endless(), http.StatusRequestTimeout, "request_timeout")
	if !strings.Contains(string(a.body), "send the same body again to continue") {
		t.Errorf("%s", a.body)
	}
}

// revocable are keys of which all can be revoked.
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

// What a key has begun ends when it is revoked.
func TestRevocationReachesWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	var revoked atomic.Bool
	s := openAt(t, fixture.Redis(), func(c *Config) { c.Keys, c.MaxBody = revocable{revoked: &revoked}, 32<<20 })
	var all sync.WaitGroup
	all.Go(func() {
		a := s.upload("/v1/batches?batch=b", every).endless()
		if a.reason() != "unauthorized" || !strings.Contains(string(a.body), "was revoked") {
			t.Errorf("an upload ends with %s", a.body)
		}
	})
	stalled := s.upload("/v1/batches?batch=c", every)
	stalled.send("application_id\n" + strings.Repeat("\n", 30<<10)) // earns its time
	all.Go(func() {
		if a := <-stalled.answered; a.reason() != "unauthorized" {
			t.Errorf("an upload that stands still ends with %s", a.body)
		}
	})
	all.Go(func() {
		a := s.ask("POST", "/v1/links", `{"application_id":"A-1"}`, "Prefer", "wait=30")
		if a.StatusCode != http.StatusUnauthorized {
			t.Errorf("a wait ends with %d %s", a.StatusCode, a.body)
		}
	})
	s.Eventually("all have begun", func() bool {
		s.api.stream.mu.Lock()
		defer s.api.stream.mu.Unlock()
		return s.api.imports.under() == 2 && len(s.api.stream.waiting) == 1
	})
	revoked.Store(true)
	all.Wait()
}

// An answer that nobody takes ends with its context.
func TestAStreamedAnswerIsInterrupted(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancelCause(t.Context())
	ended, wrote := errors.New("ended"), make(chan error, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		out := &pacedWriter{w, ctx, http.NewResponseController(w), pace{time.Hour}}
		_, _ = out.Write(make([]byte, 256<<20))
		_, err := out.Write([]byte("x"))
		wrote <- err
	}))
	defer srv.Close()
	req, err := http.NewRequestWithContext(t.Context(), "GET", srv.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := resp.Body.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	stop(ended) // while it is written
	select {
	case err := <-wrote:
		if !errors.Is(err, ended) {
			t.Errorf("it ends with %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("it goes on")
	}
}
