//go:build !linux && !darwin

package faceki

// Elsewhere the goroutine that reads is all there is.

func (c *rawConn) closedByPeer() bool { return false }

func (c *rawConn) unread() bool { return false }
