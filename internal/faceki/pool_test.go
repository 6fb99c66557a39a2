package faceki

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/request"
)

// counting is a server with its connections and create calls counted.
type counting struct {
	*httptest.Server
	made, calls atomic.Int32
	open        sync.Map // net.Conn -> http.ConnState
}

// count starts the server, over TLS where handshake is not 0: each handshake
// takes that long.
func count(t *testing.T, handshake time.Duration, create http.HandlerFunc) *counting {
	t.Helper()
	s := &counting{}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.calls.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
		create(w, r)
	}))
	s.Config.ErrorLog = zap.NewStdLog(zap.NewNop())
	s.Config.ConnState = func(c net.Conn, state http.ConnState) {
		if state == http.StateNew {
			s.made.Add(1)
		}
		s.open.Store(c, state)
	}
	if handshake == 0 {
		s.Start()
	} else {
		s.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			<-time.After(handshake)
			return nil, nil
		}}
		s.StartTLS()
	}
	t.Cleanup(s.Close)
	return s
}

// client is one that holds a token.
func (s *counting) client(t *testing.T) *Client {
	t.Helper()
	c, _ := client(t, s.URL, nil)
	if s.Certificate() != nil {
		c.pool.transport.TLSClientConfig.RootCAs = x509.NewCertPool()
		c.pool.transport.TLSClientConfig.RootCAs.AddCert(s.Certificate())
	}
	give(c, "t0k3n")
	return c
}

func (s *counting) idle() (n int) {
	s.open.Range(func(_, state any) bool {
		if state == http.StateNew || state == http.StateIdle {
			n++
		}
		return true
	})
	return n
}

// within is an attempt that was granted now.
func within(d time.Duration) attempt.Attempt {
	a := attemptFor("A", request.Content{})
	a.SendBy = time.Now().Add(d)
	return a
}

func links(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, linkAnswer) }

func TestSlowHandshakeCostsNoGrant(t *testing.T) {
	s := count(t, 200*time.Millisecond, links)
	c := s.client(t)
	var all sync.WaitGroup
	for range maxReady {
		all.Go(func() {
			if f := c.Ready(t.Context()); f != nil {
				t.Error(f)
			}
		})
	}
	all.Wait()
	for range maxReady { // at once: each needs a connection of its own
		all.Go(func() {
			if _, f := c.CreateLink(t.Context(), within(100*time.Millisecond)); f != nil {
				t.Error(f)
			}
		})
	}
	all.Wait()
	for range 20 {
		if f := c.Ready(t.Context()); f != nil {
			t.Fatal(f)
		}
		if _, f := c.CreateLink(t.Context(), within(100*time.Millisecond)); f != nil {
			t.Fatal(f)
		}
	}
	if n := s.made.Load(); n > maxReady {
		t.Errorf("%d connections", n)
	}
}

func TestDialThatCameTooLateServesTheNextCall(t *testing.T) {
	s := count(t, 200*time.Millisecond, links)
	c := s.client(t)
	f := created(c, within(50*time.Millisecond))
	if f == nil || f.Kind != fault.Interrupted || s.calls.Load() != 0 {
		t.Fatalf("%+v, %d calls", f, s.calls.Load())
	}
	if f := created(c, attemptFor("A", request.Content{})); f != nil {
		t.Fatal(f)
	}
	if n := s.made.Load(); n > 2 {
		t.Errorf("%d connections", n)
	}
}

func created(c *Client, a attempt.Attempt) *fault.Fault {
	_, f := c.CreateLink(context.Background(), a)
	return f
}

func TestTooLateIsNotSent(t *testing.T) {
	for _, handshake := range []time.Duration{0, time.Millisecond} {
		s := count(t, handshake, links)
		c := s.client(t)
		if f := c.Ready(t.Context()); f != nil {
			t.Fatal(f)
		}
		if f := created(c, within(-time.Nanosecond)); f == nil || f.Kind != fault.Interrupted {
			t.Fatalf("%+v", f)
		}
		calledOff, cancel := context.WithCancel(t.Context())
		cancel()
		for range 10 {
			if _, f := c.CreateLink(calledOff, within(time.Second)); f == nil || f.Kind != fault.Interrupted {
				t.Fatalf("%+v", f)
			}
		}
		if n := len(c.pool.idle); n != 1 {
			t.Fatalf("%d connections are left: one was taken in vain", n)
		}
		// The process is stopped when all is done but the write itself: the clock
		// is looked at nowhere later.
		c.pool.now = func() time.Time { return time.Now().Add(time.Minute) }
		if f := created(c, within(10*time.Second)); f == nil || f.Kind != fault.Interrupted || f.Detail == "" {
			t.Fatalf("%+v", f)
		}
		c.pool.now = time.Now
		if n := s.calls.Load(); n != 0 {
			t.Fatalf("%d calls", n)
		}
		if f := created(c, within(10*time.Second)); f != nil {
			t.Fatal(f)
		}
	}
}

func (s *pool) noneUsable() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !slices.ContainsFunc(s.idle, (*conn).usable)
}

// One second late at night: a spare was made, then nobody called for a while.
func TestSpareThatTheServerClosed(t *testing.T) {
	for _, handshake := range []time.Duration{0, time.Millisecond} {
		s := count(t, handshake, links)
		c := s.client(t)
		for range 20 {
			if f := c.Connect(t.Context()); f != nil {
				t.Fatal(f)
			}
			if f := created(c, attemptFor("A", request.Content{})); f != nil {
				t.Fatal(f)
			}
			before := s.calls.Load()
			// A request that crosses the close is in doubt: on a busy machine it takes a moment.
			s.CloseClientConnections()
			fixture.Eventually(t, "no spare connection is usable", c.pool.noneUsable)
			if f := created(c, attemptFor("A", request.Content{})); f != nil {
				t.Fatalf("%+v", f)
			}
			if n := s.calls.Load() - before; n != 1 {
				t.Fatalf("sent %d times", n)
			}
		}
	}
}

// Where the goroutine that reads has not seen the end yet, the socket has.
func TestSocketKnowsOfTheEndFirst(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	ours, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ours.Close() }()
	theirs, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	raw := &rawConn{Conn: ours}
	if raw.closedByPeer() || raw.unread() {
		t.Fatal("nothing has come yet")
	}
	_, _ = theirs.Write([]byte("x"))
	fixture.Eventually(t, "the socket has unread data", raw.unread)
	if raw.closedByPeer() {
		t.Fatal("open")
	}
	_, _ = raw.Read(make([]byte, 1))
	_ = theirs.Close()
	fixture.Eventually(t, "the socket is closed by its peer", raw.closedByPeer)
}

// Where the kernel took nothing, nothing was sent.
func TestWriteThatFailsAtOnceSentNothing(t *testing.T) {
	ours, theirs := net.Pipe()
	defer func() { _ = theirs.Close() }()
	s := &sending{now: time.Now}
	s.begun.Store(true)
	raw := &rawConn{Conn: ours}
	raw.sending.Store(s)
	go func() { _, _ = io.ReadFull(theirs, make([]byte, 1)) }()
	if _, err := raw.Write([]byte("x")); err != nil || !s.sent.Load() {
		t.Error("one byte is one too many", err)
	}
	_ = ours.Close()
	if _, err := raw.Write([]byte("x")); err == nil || !s.sent.Load() {
		t.Error("what was sent before stays sent", err)
	}
	s.sent.Store(false)
	if _, err := raw.Write([]byte("x")); err == nil || s.sent.Load() {
		t.Error("sent on a closed connection", err)
	}
}

func TestFewSpares(t *testing.T) {
	s := count(t, time.Millisecond, links)
	c := s.client(t)
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			for range 5 {
				if f := c.Ready(t.Context()); f != nil {
					t.Error(f)
				}
			}
		})
	}
	all.Wait()
	if n := s.made.Load(); n > maxReady {
		t.Fatalf("%d connections", n)
	}
	c.Close()
	fixture.Eventually(t, "no connection is idle", func() bool { return s.idle() == 0 })
}

func TestSparesGrowOldAndAreClosed(t *testing.T) {
	t.Parallel() // it waits for idleLimit
	s := count(t, 0, links)
	c := s.client(t)
	ready := func(made int32) {
		t.Helper()
		if f := c.Ready(t.Context()); f != nil {
			t.Error(f)
		}
		fixture.Eventually(t, "the connection is made", func() bool { return s.made.Load() == made })
	}
	ready(1)
	ready(2) // two calls may come now
	var ahead atomic.Int64
	c.pool.now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	ahead.Store(int64(readyLimit))
	give(c, "t0k3n")
	ready(3)                                                                             // the first two would not last until the call
	fixture.Eventually(t, "no connection is idle", func() bool { return s.idle() == 0 }) // after idleLimit
}

func TestConnect(t *testing.T) {
	s := count(t, time.Millisecond, links)
	c := s.client(t)
	for i := range int32(3) {
		if f := c.Connect(t.Context()); f != nil || s.made.Load() != i+1 {
			t.Fatal(f, s.made.Load())
		}
	}
	if n := s.calls.Load(); n != 0 {
		t.Fatalf("%d calls", n)
	}
	if f := created(c, attemptFor("A", request.Content{})); f != nil || s.made.Load() != 3 {
		t.Errorf("%+v on connection %d", f, s.made.Load())
	}
	s.Close()
	if f := c.Connect(t.Context()); f == nil || f.Kind != fault.NotSent || f.Detail != c.base.Host+" refused the connection" {
		t.Errorf("%+v", f)
	}
	give(c, "t0k3n")
	fixture.Eventually(t, "nothing can be sent", func() bool {
		f := c.Ready(t.Context())
		return f != nil && f.Kind == fault.NotSent
	})
	c, _ = client(t, "https://"+deaf(t), func(c *Config) { c.Timeout = 50 * time.Millisecond })
	give(c, "t0k3n")
	for _, f := range []*fault.Fault{c.Connect(t.Context()), c.Ready(t.Context())} {
		if f == nil || f.Kind != fault.ConnectTimeout {
			t.Errorf("%+v", f)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if f := c.Ready(ctx); f == nil || f.Kind != fault.Interrupted {
		t.Errorf("%+v", f)
	}
}

func TestProxyIsUsedForSparesToo(t *testing.T) {
	s := count(t, time.Millisecond, links)
	var tunnels atomic.Int32
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tunnels.Add(1)
		there, err := net.Dial("tcp", r.Host)
		if err != nil {
			return
		}
		here, read, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(here, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { _, _ = io.Copy(there, read); _ = there.Close() }()
		go func() { _, _ = io.Copy(here, there); _ = here.Close() }()
	}))
	defer proxy.Close()
	c := s.client(t)
	c.pool.transport.Proxy = func(*http.Request) (*url.URL, error) { return url.Parse(proxy.URL) }
	if f := c.Ready(t.Context()); f != nil {
		t.Fatal(f)
	}
	if f := created(c, within(100*time.Millisecond)); f != nil || tunnels.Load() != 1 || s.calls.Load() != 1 {
		t.Fatal(f, tunnels.Load(), s.calls.Load())
	}
	c.pool.now = func() time.Time { return time.Now().Add(time.Minute) }
	if f := created(c, within(10*time.Second)); f == nil || f.Kind != fault.Interrupted || s.calls.Load() != 1 {
		t.Fatal(f)
	}
}
