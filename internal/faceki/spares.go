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
	// idleLimit is how long a connection waits for a request. Many servers close
	// an idle one after 5 s. A request that crosses that close is in doubt, which
	// costs more than a new connection.
	idleLimit = 4 * time.Second
	// readyLimit is how long it counts as one that a call may soon take.
	readyLimit = 3 * time.Second
	// maxSpares is how many connections are made ahead of their calls. More may
	// be idle, that served a call each.
	maxSpares = 8
)

// spares keeps the connections that no call is using. They are made before a
// call is granted, as a grant is worth nothing 100 ms later and a handshake may
// take longer. Each dial goes on when its caller gives up, so that its
// connection serves the next one.
type spares struct {
	transport *http.Transport
	scheme    string
	address   string // host:port
	begin     func() (context.Context, context.CancelFunc)
	now       func() time.Time // of sockets, always real but in tests

	mu       sync.Mutex
	idle     []*conn // the one used last is at the end
	dialing  int
	expected []time.Time   // calls made ready, not begun yet
	changed  chan struct{} // closed, and made anew, with each dial that ended
	closed   bool
	dials    sync.WaitGroup
}

func newSpares(base *url.URL, begin func() (context.Context, context.CancelFunc)) *spares {
	s := &spares{
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

// rawKey is where a dial leaves the connection that it made.
type rawKey struct{}

// connect makes a connection for the caller alone, who gives it back.
func (s *spares) connect(ctx context.Context) (*conn, error) {
	c := &conn{since: s.now()}
	var err error
	if c.http, err = s.transport.NewClientConn(context.WithValue(ctx, rawKey{}, &c.raw), s.scheme, s.address); err != nil {
		return nil, err
	}
	c.since = s.now()
	return c, nil
}

// take gives a connection on which no request is under way: the one used last
// that is still good, or the first that is made.
func (s *spares) take(ctx context.Context) (*conn, error) {
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
			own = nil // another call was faster
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (s *spares) pop() (*conn, <-chan struct{}) {
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

// ready sees to it that a call that comes soon finds a connection, and so do
// the others that were made ready and have not begun.
func (s *spares) ready(ctx context.Context) error {
	s.mu.Lock()
	s.expected = append(s.expected, s.now())
	s.mu.Unlock()
	for {
		short, found, changed := s.look()
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

// look says whether one more dial is called for, and whether there is anything
// to take now.
func (s *spares) look() (short, found bool, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	s.expected = slices.DeleteFunc(s.expected, func(at time.Time) bool { return now.Sub(at) > readyLimit })
	at, enough := 0, max(1, min(len(s.expected), maxSpares))
	for _, c := range slices.Backward(s.idle) { // no more are looked at than needed: each is a system call
		if at == enough {
			break
		}
		if c.alive() && !c.raw.closedByPeer() && now.Sub(c.since) < readyLimit {
			at++
		}
	}
	return at+s.dialing < enough, at > 0, s.changed
}

// dial makes one more idle connection.
func (s *spares) dial() chan error {
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
			s.giveBack(c)
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

// giveBack keeps a connection for the next call, if it can serve one.
func (s *spares) giveBack(c *conn) {
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

func (s *spares) expire(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.idle, c); i >= 0 {
		s.idle = slices.Delete(s.idle, i, i+1)
		_ = c.http.Close()
	}
}

// shut closes what is idle, and from then on whatever is given back. Dials that
// are under way end first.
func (s *spares) shut() {
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
