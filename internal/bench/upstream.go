package main

import (
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/redistest"
)

// upstream is a simulated FaceKi in this process, so that all times are by the same clock.
// It can refuse connections.
type upstream struct {
	*simulator.Simulator
	addr           string
	omitRetryAfter atomic.Bool // remove Retry-After from answers

	server *http.Server // nil while it refuses connections
	ended  sync.WaitGroup
}

func openUpstream(cfg simulator.Config) (*upstream, error) {
	cfg.KeepCalls = 2_000_000
	l, err := redistest.Listen()
	if err != nil {
		return nil, err
	}
	u := &upstream{Simulator: simulator.New(cfg), addr: l.Addr().String()}
	u.serve(l)
	return u, nil
}

func (u *upstream) url() string { return "http://" + u.addr }

// listen starts accepting connections again, at the same address.
func (u *upstream) listen() error {
	l, err := net.Listen("tcp", u.addr)
	if err != nil {
		return fmt.Errorf("start the simulator: %w", err)
	}
	u.serve(l)
	return nil
}

func (u *upstream) serve(l net.Listener) {
	server := &http.Server{Handler: u, ReadHeaderTimeout: 10 * time.Second}
	u.server = server
	u.ended.Go(func() { _ = server.Serve(l) }) // always returns an error after Close
}

// refuse closes all connections and refuses new ones until listen is called.
func (u *upstream) refuse() {
	if u.server != nil {
		_ = u.server.Close()
		u.ended.Wait()
		u.server = nil
	}
}

// ServeHTTP calls the simulator, and may remove Retry-After from its answer.
func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if u.omitRetryAfter.Load() {
		w = &withoutRetryAfter{w}
	}
	u.Simulator.ServeHTTP(w, r)
}

type withoutRetryAfter struct{ http.ResponseWriter }

func (m *withoutRetryAfter) WriteHeader(status int) {
	m.Header().Del("Retry-After")
	m.ResponseWriter.WriteHeader(status)
}

// Unwrap lets the simulator access the connection.
func (m *withoutRetryAfter) Unwrap() http.ResponseWriter { return m.ResponseWriter }

// calls returns all arrivals so far.
func (u *upstream) calls() []simulator.Call {
	return u.Calls(0, u.State().LinkCalls).Calls
}
