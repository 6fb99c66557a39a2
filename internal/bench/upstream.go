package main

import (
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/redistest"
)

// upstream is a simulated FaceKi in this process, whose clock is the one that
// everything is measured by. It can refuse connections and come back.
type upstream struct {
	*simulator.Simulator
	addr string
	mute atomic.Bool // answers say no Retry-After

	server *http.Server // nil: refuses connections
	ended  sync.WaitGroup
}

func openUpstream(cfg simulator.Config) (*upstream, error) {
	cfg.KeepCalls = 2_000_000
	port, err := redistest.FreePort()
	if err != nil {
		return nil, err
	}
	u := &upstream{Simulator: simulator.New(cfg), addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port))}
	return u, u.listen()
}

func (u *upstream) url() string { return "http://" + u.addr }

// listen accepts connections, at the same address each time.
func (u *upstream) listen() error {
	l, err := net.Listen("tcp", u.addr)
	if err != nil {
		return fmt.Errorf("start the simulator: %w", err)
	}
	server := &http.Server{Handler: u, ReadHeaderTimeout: 10 * time.Second}
	u.server = server
	u.ended.Go(func() { _ = server.Serve(l) }) // ends by Close, and nothing else ends it
	return nil
}

// refuse breaks off all connections and refuses new ones until listen.
func (u *upstream) refuse() {
	if u.server != nil {
		_ = u.server.Close()
		u.ended.Wait()
		u.server = nil
	}
}

// ServeHTTP is the simulator's, without the header that it always sends.
func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if u.mute.Load() {
		w = &muted{w}
	}
	u.Simulator.ServeHTTP(w, r)
}

type muted struct{ http.ResponseWriter }

func (m *muted) WriteHeader(status int) {
	m.Header().Del("Retry-After")
	m.ResponseWriter.WriteHeader(status)
}

// Unwrap lets the simulator reach the connection.
func (m *muted) Unwrap() http.ResponseWriter { return m.ResponseWriter }

// calls gives every arrival so far.
func (u *upstream) calls() []simulator.Call {
	return u.Calls(0, u.State().LinkCalls).Calls
}
