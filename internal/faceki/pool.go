package faceki

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"
)

const (
	// idleLimit is how long a connection stays idle. Many servers close an idle connection
	// after 5 s. A request that crosses that close has an uncertain outcome, which costs
	// more than a new connection.
	idleLimit = 4 * time.Second
	// readyLimit is how long an idle connection counts as ready for a call.
	readyLimit = 3 * time.Second
	// maxReady is the number of connections that are made in advance. More may be idle
	// after calls.
	maxReady = 8
)

// pool has the idle connections. They are made before a call is granted, because a grant
// expires after 100 ms and a handshake may take longer. A dial continues when its caller
// gives up, so that the connection serves the next call.
type pool struct {
	transport *http.Transport
	scheme    string
	address   string // host:port
	begin     func() (context.Context, context.CancelFunc)
	now       func() time.Time // for sockets: real time, except in tests

	mu       sync.Mutex
	idle     []*conn // the most recently used one is last
	dialing  int
	expected []time.Time   // when calls were made ready that have not begun
	changed  chan struct{} // closed and replaced when a dial ends
	closed   bool
	dials    sync.WaitGroup
}

func newPool(base *url.URL, begin func() (context.Context, context.CancelFunc)) *pool {
	s := &pool{
		transport: newTransport(),
		scheme:    base.Scheme,
		address:   net.JoinHostPort(base.Hostname(), base.Port()),
		begin:     begin,
		now:       time.Now,
		changed:   make(chan struct{}),
	}
	s.transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		var dialer net.Dialer
		c, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		raw := &rawConn{Conn: c}
		if into, ok := ctx.Value(rawKey{}).(**rawConn); ok {
			*into = raw
		}
		return raw, nil
	}
	return s
}

// rawKey is the context key under which a dial stores its connection.
type rawKey struct{}

// connect makes a connection for the caller, who returns it with put.
func (s *pool) connect(ctx context.Context) (*conn, error) {
	c := &conn{since: s.now()}
	var err error
	if c.http, err = s.transport.NewClientConn(context.WithValue(ctx, rawKey{}, &c.raw), s.scheme, s.address); err != nil {
		return nil, err
	}
	c.since = s.now()
	return c, nil
}

// take returns a connection that no request uses: the most recently used one that is usable,
// or the next one that a dial makes.
func (s *pool) take(ctx context.Context) (*conn, error) {
	s.mu.Lock()
	if len(s.expected) > 0 {
		s.expected = s.expected[1:]
	}
	s.mu.Unlock()
	var own chan error
	for {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		c, changed := s.pop()
		if c != nil {
			if c.usable() {
				return c, nil
			}
			_ = c.http.Close()
			continue
		}
		if own == nil {
			own = s.dial()
		}
		select {
		case <-changed:
		case err := <-own:
			if err != nil {
				return nil, err
			}
			own = nil // another call has taken the connection
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (s *pool) pop() (*conn, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.idle) == 0 {
		return nil, s.changed
	}
	c := s.idle[len(s.idle)-1]
	s.idle = s.idle[:len(s.idle)-1]
	c.close.Stop()
	return c, nil
}

// ready ensures that there is a connection for a call that follows soon, and for the other
// calls that were made ready and have not begun.
func (s *pool) ready(ctx context.Context) error {
	s.mu.Lock()
	s.expected = append(s.expected, s.now())
	s.mu.Unlock()
	for {
		short, found, changed := s.check()
		var own chan error
		switch {
		case short:
			own, changed = s.dial(), nil
		case found:
			return nil
		}
		select {
		case err := <-own:
			return err
		case <-changed: // another dial ended
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// check reports whether another dial is needed, and whether a connection can be taken
// now.
func (s *pool) check() (short, found bool, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	s.expected = slices.DeleteFunc(s.expected, func(at time.Time) bool { return now.Sub(at) > readyLimit })
	at, enough := 0, max(1, min(len(s.expected), maxReady))
	for _, c := range slices.Backward(s.idle) { // stop early: each check is a system call
		if at == enough {
			break
		}
		if c.alive() && !c.raw.closedByPeer() && now.Sub(c.since) < readyLimit {
			at++
		}
	}
	return at+s.dialing < enough, at > 0, s.changed
}

// dial starts making another idle connection.
func (s *pool) dial() chan error {
	done := make(chan error, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		done <- context.Canceled
		return done
	}
	s.dialing++
	s.dials.Go(func() {
		ctx, cancel := s.begin()
		defer cancel()
		c, err := s.connect(ctx)
		if err == nil {
			s.put(c)
		}
		done <- err
		s.mu.Lock()
		defer s.mu.Unlock()
		s.dialing--
		close(s.changed)
		s.changed = make(chan struct{})
	})
	return done
}

// put keeps a connection for the next call if it is alive.
func (s *pool) put(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || !c.alive() {
		_ = c.http.Close()
		return
	}
	c.since = s.now()
	c.close = time.AfterFunc(idleLimit, func() { s.expire(c) })
	s.idle = append(s.idle, c)
}

func (s *pool) expire(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.idle, c); i >= 0 {
		s.idle = slices.Delete(s.idle, i, i+1)
		_ = c.http.Close()
	}
}

// closeAll closes the idle connections, and every connection that is put later. It waits
// for dials in progress.
func (s *pool) closeAll() {
	s.mu.Lock()
	s.closed = true
	idle := s.idle
	s.idle = nil
	s.mu.Unlock()
	for _, c := range idle {
		c.close.Stop()
		_ = c.http.Close()
	}
	s.dials.Wait()
}
