// Package simulator is FaceKi's stand-in: the part of its API that kyclink uses,
// as an [http.Handler], with an endpoint to script its failures and to read what
// it saw. FaceKi has no sandbox, so tests, demos and rehearsals run against it.
//
// It answers the paths of FaceKi's two generations:
//
//	POST /auth/api/generate-token      GET /auth/api/access-token
//	POST /kycverify/api/kycverify/kyc-verify-link
//
// and, for whoever runs it, without any authentication:
//
//	GET  /_simulator/state                       State
//	GET  /_simulator/links?application_id=ID     Application
//	GET  /_simulator/links?after=N&limit=N       Applications, in order of arrival
//	GET  /_simulator/calls?after=N&limit=N       Calls, when which id arrived
//	GET  /_simulator/script, PUT                 Script
//	POST /_simulator/credit {"add":100}          tops the wallet up
//	POST /_simulator/revoke                      every token issued is refused from now on
//	POST /_simulator/release                     calls that hang go on
//	POST /_simulator/reset                       as it was started
//
// Links are https://simulator.invalid/kycverify/<id>, which nobody can open.
// Nothing is logged and nothing is stored on disk.
package simulator

import (
	"context"
	"crypto/subtle"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/time/rate"
)

// LinkPrefix is what every simulated link starts with.
const LinkPrefix = "https://simulator.invalid/kycverify/"

// Config is how a simulator starts. The zero value accepts any credentials and
// answers every call at once with a link.
type Config struct {
	// ClientID and ClientSecret are the credentials that it knows; where empty,
	// any that are not empty do.
	ClientID     string
	ClientSecret string
	// TokenLifetime is an hour where 0; tokens live at least a second.
	TokenLifetime time.Duration
	// KeepCalls is how many arrivals are remembered; 100,000 where 0.
	KeepCalls int
	// Script is in force from the start and after a reset. It must be valid.
	Script Script
	// Now is the clock of tokens, arrivals and the rate limit; time.Now where
	// nil. Latencies are always real.
	Now func() time.Time
}

// Simulator is one simulated FaceKi account. It is safe for concurrent use.
type Simulator struct {
	cfg Config
	mux *http.ServeMux

	mu       sync.Mutex
	script   Script
	limiter  *rate.Limiter // nil: no limit
	credit   *int          // nil: never runs out
	released chan struct{} // closed when calls that hang are to go on
	tokens   map[string]time.Time
	seen     Counts
	inFlight int
	apps     map[string]*application
	order    []string // application ids by first arrival
	calls    ring
}

// New makes a simulator. It panics where the script is not valid, see
// [Script.Validate].
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
	s := &Simulator{cfg: cfg, mux: http.NewServeMux(), released: make(chan struct{})}
	if err := s.Reset(); err != nil {
		panic(err)
	}
	s.mux.HandleFunc("POST /auth/api/generate-token", s.tokenByPost)
	s.mux.HandleFunc("GET /auth/api/access-token", s.tokenByGet)
	s.mux.HandleFunc("POST /kycverify/api/kycverify/kyc-verify-link", s.createLink)
	s.adminRoutes()
	return s
}

// ServeHTTP answers as FaceKi would, or as the script says.
func (s *Simulator) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// Serve answers on the listener until ctx ends, then breaks off what is still
// under way and returns nil. The error is the listener's.
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

// Start runs the simulator on a free loopback port. Calling stop ends it.
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

// issue makes a token, for credentials that are right.
func (s *Simulator) issue(id, secret string) (token string, ok bool) {
	if id == "" || secret == "" || !same(s.cfg.ClientID, id) || !same(s.cfg.ClientSecret, secret) {
		return "", false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.cfg.Now()
	for old, until := range s.tokens {
		if now.After(until) {
			delete(s.tokens, old)
		}
	}
	token = "simulated-" + uuid.NewString()
	s.tokens[token] = now.Add(s.cfg.TokenLifetime)
	s.seen.TokensIssued++
	return token, true
}

func same(known, given string) bool {
	return known == "" || subtle.ConstantTimeCompare([]byte(known), []byte(given)) == 1
}

// authorized says whether the request carries a token that has not expired.
func (s *Simulator) authorized(r *http.Request) bool {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	s.mu.Lock()
	defer s.mu.Unlock()
	until, known := s.tokens[token]
	return ok && known && s.cfg.Now().Before(until)
}
