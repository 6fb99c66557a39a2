package faceki

import (
	"errors"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// errTooLate says that the moment has passed by which a call was to begin.
var errTooLate = errors.New("too late to be sent")

// conn is a connection to FaceKi, through TLS and a proxy where there is one.
type conn struct {
	http  *http.ClientConn
	raw   *rawConn
	since time.Time // made, or done with its last request
	close *time.Timer
}

// alive says whether the other side has not closed it, as far as was read.
func (c *conn) alive() bool { return c.http.Available() == 1 }

// usable looks at the socket as well, before a request is risked: the goroutine
// that reads from it may not have had its turn since the other side closed it,
// after the process was stopped for a while for instance. What came unasked
// (tickets of TLS, or its farewell) is given a moment to be read.
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

// sending is what is known of one request on its way out.
type sending struct {
	by      time.Time // zero: no limit
	now     func() time.Time
	begun   atomic.Bool // what is written from now on belongs to the request
	sent    atomic.Bool // some of it may have left
	refused atomic.Bool // nothing did, as it was too late
}

// rawConn is the TCP connection under TLS, where it can be seen what has left.
type rawConn struct {
	net.Conn
	sending atomic.Pointer[sending]
}

// Write refuses a request whose time has passed. This is the last moment at
// which it can be held back.
func (c *rawConn) Write(p []byte) (int, error) {
	s := c.sending.Load()
	if s == nil || !s.begun.Load() {
		return c.Conn.Write(p)
	}
	first := !s.sent.Load()
	if first && !s.by.IsZero() && !s.now().Before(s.by) {
		s.refused.Store(true)
		return 0, errTooLate
	}
	s.sent.Store(true) // before it is so: whoever looks meanwhile is in doubt
	n, err := c.Conn.Write(p)
	if first && n == 0 && err != nil {
		s.sent.Store(false)
	}
	return n, err
}
