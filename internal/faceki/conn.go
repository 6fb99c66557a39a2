package faceki

import (
	"errors"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// errTooLate means that the deadline for sending a request has passed.
var errTooLate = errors.New("too late to be sent")

// conn is a connection to FaceKi, with TLS and through the proxy, if any.
type conn struct {
	http  *http.ClientConn
	raw   *rawConn
	since time.Time // when it was made or last used
	close *time.Timer
}

// alive reports whether the connection can be used, as far as the reading goroutine knows.
func (c *conn) alive() bool { return c.http.Available() == 1 }

// usable also checks the socket: the peer may have closed the connection before the reading
// goroutine has run again, for example after the process was suspended. It waits a moment
// until data that has arrived (TLS tickets or a close) is read.
func (c *conn) usable() bool {
	for range 5 {
		if !c.alive() || c.raw.closedByPeer() {
			return false
		}
		if !c.raw.unread() {
			return true
		}
		<-time.After(time.Millisecond)
	}
	return false
}

// sending is the state of one request while it is written.
type sending struct {
	by      time.Time // the deadline for the first byte; zero for none
	now     func() time.Time
	begun   atomic.Bool // everything written from now on belongs to the request
	sent    atomic.Bool // some bytes may have been sent
	tooLate atomic.Bool // nothing was sent, because the deadline had passed
}

// rawConn is the TCP connection below TLS. It records whether anything was sent.
type rawConn struct {
	net.Conn
	sending atomic.Pointer[sending]
}

// Write refuses a request whose deadline has passed. This is the last moment at which it
// can be stopped.
func (c *rawConn) Write(p []byte) (int, error) {
	s := c.sending.Load()
	if s == nil || !s.begun.Load() {
		return c.Conn.Write(p)
	}
	first := !s.sent.Load()
	if first && !s.by.IsZero() && !s.now().Before(s.by) {
		s.tooLate.Store(true)
		return 0, errTooLate
	}
	s.sent.Store(true) // before writing, because the outcome is uncertain from now on
	n, err := c.Conn.Write(p)
	if first && n == 0 && err != nil {
		s.sent.Store(false)
	}
	return n, err
}
