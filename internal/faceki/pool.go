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

// pool holds the idle connections. They are made before a call is granted, because a grant
// expires after 100 ms and a handshake may take longer. A dial continues when its caller
// gives up, so that the connection serves the next call.
type pool struct {
	transport  *http.Transport
	scheme     string
	address    string                                       // host:port
	newContext func() (context.Context, context.CancelFunc) // of a dial
	now        func() time.Time                             // for sockets: real time, except in tests

	mu       sync.Mutex
	idle     []*conn // the most recently used one is last
	dialing  int
	expected []time.Time   // when ready was called for calls that have not begun
	changed  chan struct{} // closed and replaced when a dial ends
	closed   bool
	dials    sync.WaitGroup
}

func newPool(base *url.URL, newContext func() (context.Context, context.CancelFunc)) *pool {
	p := &pool{
		transport:  newTransport(),
		scheme:     base.Scheme,
		address:    net.JoinHostPort(base.Hostname(), base.Port()),
		newContext: newContext,
		now:        time.Now,
		changed:    make(chan struct{}),
	}
	p.transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
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
	return p
}

// rawKey is the context key under which a dial stores its connection.
type rawKey struct{}

// connect makes a connection for the caller, who returns it with put.
func (p *pool) connect(ctx context.Context) (*conn, error) {
	c := &conn{since: p.now()}
	var err error
	if c.http, err = p.transport.NewClientConn(context.WithValue(ctx, rawKey{}, &c.raw), p.scheme, p.address); err != nil {
		return nil, err
	}
	c.since = p.now()
	return c, nil
}

// take returns a connection that no request uses: the most recently used one, or the next
// one that a dial makes.
func (p *pool) take(ctx context.Context) (*conn, error) {
	p.mu.Lock()
	if len(p.expected) > 0 {
		p.expected = p.expected[1:]
	}
	p.mu.Unlock()
	var own chan error
	for {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		c, changed := p.pop()
		if c != nil {
			if c.usable() {
				return c, nil
			}
			_ = c.http.Close()
			continue
		}
		if own == nil {
			own = p.dial()
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

func (p *pool) pop() (*conn, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) == 0 {
		return nil, p.changed
	}
	c := p.idle[len(p.idle)-1]
	p.idle = p.idle[:len(p.idle)-1]
	c.close.Stop()
	return c, nil
}

// ready ensures that there is a connection for a call that follows soon, and for each other
// call for which it was called and that has not begun.
func (p *pool) ready(ctx context.Context) error {
	p.mu.Lock()
	p.expected = append(p.expected, p.now())
	p.mu.Unlock()
	for {
		needsDial, found, changed := p.check()
		var own chan error
		switch {
		case needsDial:
			own, changed = p.dial(), nil
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
func (p *pool) check() (needsDial, found bool, changed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	p.expected = slices.DeleteFunc(p.expected, func(at time.Time) bool { return now.Sub(at) > readyLimit })
	usable, enough := 0, max(1, min(len(p.expected), maxReady))
	for _, c := range slices.Backward(p.idle) { // stop early: each check is a system call
		if usable == enough {
			break
		}
		if c.alive() && !c.raw.closedByPeer() && now.Sub(c.since) < readyLimit {
			usable++
		}
	}
	return usable+p.dialing < enough, usable > 0, p.changed
}

// dial starts to make another idle connection. The channel receives the result.
func (p *pool) dial() chan error {
	done := make(chan error, 1)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		done <- context.Canceled
		return done
	}
	p.dialing++
	p.dials.Go(func() {
		ctx, cancel := p.newContext()
		defer cancel()
		c, err := p.connect(ctx)
		if err == nil {
			p.put(c)
		}
		done <- err
		p.mu.Lock()
		defer p.mu.Unlock()
		p.dialing--
		close(p.changed)
		p.changed = make(chan struct{})
	})
	return done
}

// put keeps a connection for the next call if it is alive.
func (p *pool) put(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || !c.alive() {
		_ = c.http.Close()
		return
	}
	c.since = p.now()
	c.close = time.AfterFunc(idleLimit, func() { p.expire(c) })
	p.idle = append(p.idle, c)
}

func (p *pool) expire(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.idle, c); i >= 0 {
		p.idle = slices.Delete(p.idle, i, i+1)
		_ = c.http.Close()
	}
}

// closeAll closes the idle connections, and every connection that is put later. It waits
// for dials in progress.
func (p *pool) closeAll() {
	p.mu.Lock()
	p.closed = true
	idle := p.idle
	p.idle = nil
	p.mu.Unlock()
	for _, c := range idle {
		c.close.Stop()
		_ = c.http.Close()
	}
	p.dials.Wait()
}
