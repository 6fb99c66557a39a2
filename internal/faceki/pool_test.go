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

	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/request"
)

// countingServer counts its connections and the requests that it receives.
type countingServer struct {
	*httptest.Server
	connections, calls atomic.Int32
	states             sync.Map // net.Conn -> http.ConnState
}

// startCounting starts a server. If handshake is not 0, it uses TLS, and each handshake
// takes that long.
func startCounting(t *testing.T, handshake time.Duration, create http.HandlerFunc) *countingServer {
	t.Helper()
	s := &countingServer{}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.calls.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
		create(w, r)
	}))
	s.Config.ErrorLog = zap.NewStdLog(zap.NewNop())
	s.Config.ConnState = func(c net.Conn, state http.ConnState) {
		if state == http.StateNew {
			s.connections.Add(1)
		}
		s.states.Store(c, state)
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

// client returns a client that has a token.
func (s *countingServer) client(t *testing.T) *Client {
	t.Helper()
	c, _ := client(t, s.URL, nil)
	if s.Certificate() != nil {
		c.pool.transport.TLSClientConfig.RootCAs = x509.NewCertPool()
		c.pool.transport.TLSClientConfig.RootCAs.AddCert(s.Certificate())
	}
	setToken(c, "t0k3n")
	return c
}

func (s *countingServer) idle() (n int) {
	s.states.Range(func(_, state any) bool {
		if state == http.StateNew || state == http.StateIdle {
			n++
		}
		return true
	})
	return n
}

// attemptWithin returns an attempt that must be sent within d from now.
func attemptWithin(d time.Duration) Call {
	a := attemptFor("A", request.Content{})
	a.SendBy = time.Now().Add(d)
	return a
}

func answerWithLink(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, linkAnswer) }

// TestReady_KeepsSlowHandshakesOutOfTheGrant has grants that last for seconds, in which a busy
// machine sends a call, and handshakes that last longer.
func TestReady_KeepsSlowHandshakesOutOfTheGrant(t *testing.T) {
	t.Parallel() // it waits for the handshakes
	const grant, handshake = 4 * time.Second, 5 * time.Second
	s := startCounting(t, handshake, answerWithLink)
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
	for range maxReady { // concurrently: each needs its own connection
		all.Go(func() {
			if _, f := c.CreateLink(t.Context(), attemptWithin(grant)); f != nil {
				t.Error(f)
			}
		})
	}
	all.Wait()
	for range 20 {
		if f := c.Ready(t.Context()); f != nil {
			t.Fatal(f)
		}
		if _, f := c.CreateLink(t.Context(), attemptWithin(grant)); f != nil {
			t.Fatal(f)
		}
	}
	if n := s.connections.Load(); n > maxReady {
		t.Errorf("%d connections, want at most %d", n, maxReady)
	}
}

func TestPool_UsesAConnectionThatCameTooLateForTheNextCall(t *testing.T) {
	s := startCounting(t, 200*time.Millisecond, answerWithLink)
	c := s.client(t)
	f := createFault(c, attemptWithin(50*time.Millisecond))
	if f == nil || f.Kind != fault.Interrupted || s.calls.Load() != 0 {
		t.Fatalf("fault %+v and %d calls, want an interrupted attempt without a call", f, s.calls.Load())
	}
	if f := createFault(c, attemptFor("A", request.Content{})); f != nil {
		t.Fatal(f)
	}
	if n := s.connections.Load(); n > 2 {
		t.Errorf("%d connections, want at most 2", n)
	}
}

// createFault calls CreateLink, and returns its fault.
func createFault(c *Client, a Call) *fault.Fault {
	_, f := c.CreateLink(context.Background(), a)
	return f
}

func TestCreateLink_SendsNothingAfterItsDeadline(t *testing.T) {
	for _, handshake := range []time.Duration{0, time.Millisecond} {
		s := startCounting(t, handshake, answerWithLink)
		c := s.client(t)
		if f := c.Ready(t.Context()); f != nil {
			t.Fatal(f)
		}
		if f := createFault(c, attemptWithin(-time.Nanosecond)); f == nil || f.Kind != fault.Interrupted {
			t.Fatalf("after the deadline: %+v, want an interrupted attempt", f)
		}
		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		for range 10 {
			if _, f := c.CreateLink(cancelled, attemptWithin(time.Second)); f == nil || f.Kind != fault.Interrupted {
				t.Fatalf("cancelled: %+v, want an interrupted attempt", f)
			}
		}
		if n := len(c.pool.idle); n != 1 {
			t.Fatalf("%d idle connections, want 1: an attempt that is not sent must not use one", n)
		}
		// The process is suspended just before the write: the clock is read for the last
		// time there.
		c.pool.now = func() time.Time { return time.Now().Add(time.Minute) }
		if f := createFault(c, attemptWithin(10*time.Second)); f == nil || f.Kind != fault.Interrupted || f.Detail == "" {
			t.Fatalf("written after the deadline: %+v, want an interrupted attempt with a detail", f)
		}
		c.pool.now = time.Now
		if n := s.calls.Load(); n != 0 {
			t.Fatalf("%d calls, want none", n)
		}
		if f := createFault(c, attemptWithin(10*time.Second)); f != nil {
			t.Fatal(f)
		}
	}
}

// noneUsable reports whether no idle connection can be used.
func (s *pool) noneUsable() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !slices.ContainsFunc(s.idle, (*conn).usable)
}

func TestCreateLink_SendsOnceAfterTheServerClosedIdleConnections(t *testing.T) {
	for _, handshake := range []time.Duration{0, time.Millisecond} {
		s := startCounting(t, handshake, answerWithLink)
		c := s.client(t)
		for range 20 {
			if f := c.Connect(t.Context()); f != nil {
				t.Fatal(f)
			}
			if f := createFault(c, attemptFor("A", request.Content{})); f != nil {
				t.Fatal(f)
			}
			before := s.calls.Load()
			// On a busy machine the client notices the close late; a request before that has an
			// uncertain outcome.
			s.CloseClientConnections()
			fixture.Eventually(t, "no idle connection is usable", c.pool.noneUsable)
			if f := createFault(c, attemptFor("A", request.Content{})); f != nil {
				t.Fatal(f)
			}
			if n := s.calls.Load() - before; n != 1 {
				t.Fatalf("sent %d times, want once", n)
			}
		}
	}
}

// TestRawConn_DetectsACloseBeforeItIsRead also checks that unread data is detected.
func TestRawConn_DetectsACloseBeforeItIsRead(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	local, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = local.Close() }()
	peer, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	raw := &rawConn{Conn: local}
	if raw.closedByPeer() || raw.unread() {
		t.Fatal("a new connection is closed or has unread data")
	}
	_, _ = peer.Write([]byte("x"))
	fixture.Eventually(t, "the socket has unread data", raw.unread)
	if raw.closedByPeer() {
		t.Fatal("a connection with unread data counts as closed")
	}
	_, _ = raw.Read(make([]byte, 1))
	_ = peer.Close()
	fixture.Eventually(t, "the socket is closed by its peer", raw.closedByPeer)
}

func TestRawConn_RecordsWhetherAnythingWasSent(t *testing.T) {
	local, peer := net.Pipe()
	defer func() { _ = peer.Close() }()
	s := &sending{now: time.Now}
	s.begun.Store(true)
	raw := &rawConn{Conn: local}
	raw.sending.Store(s)
	go func() { _, _ = io.ReadFull(peer, make([]byte, 1)) }()
	if _, err := raw.Write([]byte("x")); err != nil || !s.sent.Load() {
		t.Errorf("after one byte: sent %v (%v), want true", s.sent.Load(), err)
	}
	_ = local.Close()
	if _, err := raw.Write([]byte("x")); err == nil || !s.sent.Load() {
		t.Errorf("after a failed write that follows another: sent %v (%v), want true", s.sent.Load(), err)
	}
	s.sent.Store(false)
	if _, err := raw.Write([]byte("x")); err == nil || s.sent.Load() {
		t.Errorf("after a failed first write: sent %v (%v), want false", s.sent.Load(), err)
	}
}

func TestReady_LimitsTheConnectionsMadeInAdvance(t *testing.T) {
	s := startCounting(t, time.Millisecond, answerWithLink)
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
	if n := s.connections.Load(); n > maxReady {
		t.Fatalf("%d connections, want at most %d", n, maxReady)
	}
	c.Close()
	fixture.Eventually(t, "no connection is idle", func() bool { return s.idle() == 0 })
}

func TestPool_ReplacesAndClosesOldConnections(t *testing.T) {
	t.Parallel() // it waits for idleLimit
	s := startCounting(t, 0, answerWithLink)
	c := s.client(t)
	ready := func(connections int32) {
		t.Helper()
		if f := c.Ready(t.Context()); f != nil {
			t.Error(f)
		}
		fixture.Eventually(t, "the connection is made", func() bool { return s.connections.Load() == connections })
	}
	ready(1)
	ready(2) // two calls are expected now
	var ahead atomic.Int64
	c.pool.now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	ahead.Store(int64(readyLimit))
	setToken(c, "t0k3n")
	ready(3)                                                                             // the first two may be closed before the call
	fixture.Eventually(t, "no connection is idle", func() bool { return s.idle() == 0 }) // after idleLimit
}

func TestConnect_MakesAConnectionWithoutARequest(t *testing.T) {
	s := startCounting(t, time.Millisecond, answerWithLink)
	c := s.client(t)
	for i := range int32(3) {
		if f := c.Connect(t.Context()); f != nil || s.connections.Load() != i+1 {
			t.Fatalf("fault %v, %d connections, want %d", f, s.connections.Load(), i+1)
		}
	}
	if n := s.calls.Load(); n != 0 {
		t.Fatalf("%d calls, want none", n)
	}
	if f := createFault(c, attemptFor("A", request.Content{})); f != nil || s.connections.Load() != 3 {
		t.Errorf("fault %+v, %d connections, want none and 3", f, s.connections.Load())
	}
	s.Close()
	if f := c.Connect(t.Context()); f == nil || f.Kind != fault.NotSent || f.Detail != c.base.Host+" refused the connection" {
		t.Errorf("without a server: %+v", f)
	}
	setToken(c, "t0k3n")
	fixture.Eventually(t, "Ready finds no server", func() bool {
		f := c.Ready(t.Context())
		return f != nil && f.Kind == fault.NotSent
	})
	c, _ = client(t, "https://"+silentServer(t), func(c *Config) { c.Timeout = 50 * time.Millisecond })
	setToken(c, "t0k3n")
	for _, f := range []*fault.Fault{c.Connect(t.Context()), c.Ready(t.Context())} {
		if f == nil || f.Kind != fault.ConnectTimeout {
			t.Errorf("with a silent server: %+v, want a timeout", f)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if f := c.Ready(ctx); f == nil || f.Kind != fault.Interrupted {
		t.Errorf("cancelled: %+v, want an interruption", f)
	}
}

func TestPool_ConnectsThroughTheProxy(t *testing.T) {
	s := startCounting(t, time.Millisecond, answerWithLink)
	var tunnels atomic.Int32
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tunnels.Add(1)
		server, err := net.Dial("tcp", r.Host)
		if err != nil {
			return
		}
		client, reader, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(client, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { _, _ = io.Copy(server, reader); _ = server.Close() }()
		go func() { _, _ = io.Copy(client, server); _ = client.Close() }()
	}))
	defer proxy.Close()
	c := s.client(t)
	c.pool.transport.Proxy = func(*http.Request) (*url.URL, error) { return url.Parse(proxy.URL) }
	if f := c.Ready(t.Context()); f != nil {
		t.Fatal(f)
	}
	if f := createFault(c, attemptWithin(time.Minute)); f != nil || tunnels.Load() != 1 || s.calls.Load() != 1 {
		t.Fatalf("fault %v, %d tunnels, %d calls, want none, 1 and 1", f, tunnels.Load(), s.calls.Load())
	}
	c.pool.now = func() time.Time { return time.Now().Add(time.Minute) }
	if f := createFault(c, attemptWithin(10*time.Second)); f == nil || f.Kind != fault.Interrupted || s.calls.Load() != 1 {
		t.Fatalf("written after the deadline: fault %v, %d calls, want an interruption and 1", f, s.calls.Load())
	}
}
