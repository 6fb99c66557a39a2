// Package simulator is a simulated FaceKi: the part of its API that kyclink uses,
// as an [http.Handler], with endpoints to script faults and to read what it received.
// FaceKi has no sandbox, so tests, demos and rehearsals use this instead.
//
// It serves the paths of both generations of FaceKi's API:
//
//	POST /auth/api/generate-token      GET /auth/api/access-token
//	POST /kycverify/api/kycverify/kyc-verify-link
//
// and these control endpoints, without authentication:
//
//	GET  /_simulator/state                       State
//	GET  /_simulator/links?application_id=ID     Application
//	GET  /_simulator/links?after=N&limit=N       Applications, in order of their first call
//	GET  /_simulator/calls?after=N&limit=N       Calls, in order of arrival
//	GET  /_simulator/script, PUT                 Script
//	GET  /_simulator/faults                      the preset in effect
//	PUT  /_simulator/faults/NAME                 switches to a Preset
//	POST /_simulator/credit {"add":100}          adds credit
//	POST /_simulator/revoke                      invalidates all tokens issued so far
//	POST /_simulator/release                     lets hanging calls continue
//	POST /_simulator/reset                       restores the initial state
//
// Links have the form https://simulator.invalid/kycverify/<id>, which nobody can open.
// The simulator logs nothing and stores nothing on disk.
package simulator

import (
	"context"
	"net"
	"net/http"
	"time"
)

// LinkPrefix is the prefix of every simulated link.
const LinkPrefix = "https://simulator.invalid/kycverify/"

// Config holds the settings of a simulator. The zero value accepts any credentials and
// answers every call immediately with a link.
type Config struct {
	// ClientID and ClientSecret are the accepted credentials. If one is empty, any
	// non-empty value is accepted for it.
	ClientID     string
	ClientSecret string
	// TokenLifetime is the lifetime of tokens, at least a second. The default is an hour.
	TokenLifetime time.Duration
	// KeepCalls is the number of arrivals to remember. The default is 100,000.
	KeepCalls int
	// Script is in effect initially and after a reset. It must be valid.
	Script Script
	// Now is the clock for tokens, arrivals and the rate limit. The default is
	// time.Now. Latencies always take real time.
	Now func() time.Time
}

// Simulator is one simulated FaceKi account. It is safe for concurrent use.
type Simulator struct {
	account
	mux *http.ServeMux
}

// New returns a simulator. It panics if the script is invalid; see [Script.Validate].
func New(cfg Config) *Simulator {
	if cfg.TokenLifetime == 0 {
		cfg.TokenLifetime = time.Hour
	}
	cfg.TokenLifetime = max(cfg.TokenLifetime, time.Second)
	if cfg.KeepCalls == 0 {
		cfg.KeepCalls = 100_000
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Simulator{account: account{cfg: cfg, released: make(chan struct{})}, mux: http.NewServeMux()}
	if err := s.reset(); err != nil {
		panic(err)
	}
	s.mux.HandleFunc("POST /auth/api/generate-token", s.tokenByPost)
	s.mux.HandleFunc("GET /auth/api/access-token", s.tokenByGet)
	s.mux.HandleFunc("POST /kycverify/api/kycverify/kyc-verify-link", s.createLink)
	s.handleControl()
	return s
}

// ServeHTTP answers as FaceKi would, or as the script specifies.
func (s *Simulator) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// Serve accepts connections on the listener until ctx ends, then closes all
// connections and returns nil. It returns an error if the listener fails.
func (s *Simulator) Serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	closed := make(chan struct{})
	defer func() { <-closed }()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		defer close(closed)
		<-ctx.Done()
		_ = server.Close()
	}()
	if err := server.Serve(l); ctx.Err() == nil {
		return err
	}
	return nil
}

// Start serves on a free loopback port until stop is called.
func (s *Simulator) Start() (baseURL string, stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(ctx, l)
	}()
	return "http://" + l.Addr().String(), func() { cancel(); <-done }, nil
}
