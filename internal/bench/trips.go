package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
)

// counter is a proxy in front of Redis that counts round trips: a client's first bytes
// after an answer begin one, however many commands it sends before the next answer.
// Redis' own counters cannot be used: they also count the commands inside scripts, and
// each command of a pipeline.
type counter struct {
	trips    atomic.Int64
	listener net.Listener
	target   string
	running  sync.WaitGroup
	mu       sync.Mutex
	open     map[net.Conn]bool // nil: closed
}

// startCounter listens on a free loopback port until close.
func startCounter(target string) (*counter, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("count round trips: %w", err)
	}
	c := &counter{listener: l, target: target, open: make(map[net.Conn]bool)}
	c.running.Go(c.accept)
	return c, nil
}

func (c *counter) addr() string { return c.listener.Addr().String() }

func (c *counter) accept() {
	for {
		client, err := c.listener.Accept()
		if err != nil {
			return // the listener is closed
		}
		c.running.Go(func() { c.pass(client) })
	}
}

// keep registers a connection, which close closes.
func (c *counter) keep(conn net.Conn) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open == nil {
		_ = conn.Close()
		return errors.New("the counter is closed")
	}
	c.open[conn] = true
	return nil
}

func (c *counter) drop(conn net.Conn) {
	_ = conn.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, conn)
}

func (c *counter) pass(client net.Conn) {
	if c.keep(client) != nil {
		return
	}
	defer c.drop(client)
	server, err := new(net.Dialer).DialContext(context.Background(), "tcp", c.target)
	if err != nil || c.keep(server) != nil {
		return
	}
	defer c.drop(server)
	var answered atomic.Bool
	answered.Store(true)
	var both sync.WaitGroup
	both.Go(func() {
		forward(client, server, func() { answered.Store(true) })
	})
	forward(server, client, func() {
		if answered.Swap(false) {
			c.trips.Add(1)
		}
	})
	both.Wait()
}

// forward copies from one connection to the other, and calls received before it writes
// what it read. When one side ends, it closes both.
func forward(to, from net.Conn, received func()) {
	defer func() { _ = to.Close(); _ = from.Close() }()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			received()
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return // io.EOF, or the other side has closed the connection
		}
	}
}

func (c *counter) close() {
	_ = c.listener.Close()
	c.mu.Lock()
	for conn := range c.open {
		_ = conn.Close()
	}
	c.open = nil
	c.mu.Unlock()
	c.running.Wait()
}
