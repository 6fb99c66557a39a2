package connection

import (
	"net"
	"sync"
)

// Limit makes a listener that has at most so many open connections; others wait in the
// system's queue. It calls full whenever a connection has to wait.
func Limit(l net.Listener, connections int, full func()) net.Listener {
	closed := make(chan struct{})
	return &listener{l, make(chan struct{}, connections), closed, sync.OnceFunc(func() { close(closed) }), full}
}

type listener struct {
	net.Listener
	slots  chan struct{}
	closed chan struct{}
	close  func()
	full   func()
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	default:
		l.full()
		select {
		case l.slots <- struct{}{}:
		case <-l.closed:
			return nil, net.ErrClosed
		}
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &conn{c, sync.OnceFunc(func() { <-l.slots })}, nil
}

func (l *listener) Close() error {
	l.close()
	return l.Listener.Close()
}

type conn struct {
	net.Conn
	release func()
}

func (c *conn) Close() error {
	defer c.release()
	return c.Conn.Close()
}

// CloseWrite lets net/http close a connection so that its last answer arrives.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
