//go:build !linux && !darwin

package faceki

// Other systems rely on the goroutine that reads from the connection.

func (c *rawConn) closedByPeer() bool { return false }

func (c *rawConn) unread() bool { return false }
