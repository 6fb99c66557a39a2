//go:build linux || darwin

package faceki

import (
	"errors"
	"syscall"
)

// closedByPeer reports whether the peer has closed the connection and everything before
// that has been read.
func (c *rawConn) closedByPeer() bool {
	n, err := c.peek()
	return n == 0 && !errors.Is(err, syscall.EAGAIN) && !errors.Is(err, syscall.EINTR)
}

// unread reports whether received data has not been read yet.
func (c *rawConn) unread() bool {
	n, err := c.peek()
	return n > 0 && err == nil
}

// peek reads from the socket without consuming data. It does not disturb a concurrent
// reader.
func (c *rawConn) peek() (n int, err error) {
	socket, ok := c.Conn.(syscall.Conn)
	if !ok {
		return 0, syscall.EAGAIN
	}
	control, err := socket.SyscallConn()
	if err != nil {
		return 0, err
	}
	var one [1]byte
	if failed := control.Control(func(fd uintptr) {
		n, _, err = syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	}); failed != nil {
		return 0, failed
	}
	return n, err
}
