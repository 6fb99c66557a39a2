// Package monitor serves the health and the metrics of a process over HTTP.
//
// Everyone who can connect may read them. They contain no secret and name no person: no
// request, link or URL, and no receiver's host. Every label has few values.
package monitor

import (
	"context"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/account"
	"github.com/kyclink/kyclink/internal/diagnosis"
)

// Account reads the state of the account.
type Account interface {
	Gauges(ctx context.Context) (account.Gauges, error)
	// WriteError returns why Redis refuses writes of this process, without a secret; nil
	// if it accepts them.
	WriteError() error
}

// Config configures a [Server], or one of the accounts of a [NewSeveral].
type Config struct {
	Name    string // of the account
	Account Account
	// Diagnose diagnoses the account, at each scrape.
	Diagnose func(context.Context) (diagnosis.Diagnosis, error)
	Version  string
	// Ready returns why this process does not work for the account; nil if it does. It is
	// for [NewSeveral] only.
	Ready func() error
	// Log receives errors of the server; Limited, a logger that drops repeated lines,
	// those of reading the account.
	Log, Limited *zap.Logger
}

const (
	headersWithin = 5 * time.Second
	requestWithin = 10 * time.Second // read, or written
	idleWithin    = time.Minute
	mostHeaders   = 8 << 10
	endWithin     = time.Second
	scrapesAtOnce = 8 // more are refused
	// readWithin limits reading the account. It is shorter than a scraper's timeout.
	readWithin = 2 * time.Second
)

// Server serves the health and the metrics of one process.
type Server struct {
	// Metrics are those that the process counts itself; nil if it works for several accounts.
	*Metrics
	registry *prometheus.Registry
	written  func() error
	log      *zap.Logger
	accounts map[string]*Metrics // by name, if there are several
}

// New makes a server, and the metrics that it shows.
func New(cfg Config) *Server {
	s := newBare(cfg, cfg)
	s.Metrics, s.written = newMetrics(), cfg.Account.WriteError
	s.registry.MustRegister(s.all()...)
	return s
}

// NewSeveral makes a server of a process that works for several accounts. What it counts
// itself has the account as a label, see [Server.Of]. The configurations differ in Name,
// Account, Diagnose, Ready and Limited.
func NewSeveral(accounts []Config) *Server {
	s := newBare(accounts[0], accounts...)
	s.written = func() error { return nil } // Ready says it of each account
	for _, a := range accounts {
		m := newMetrics()
		s.accounts[a.Name] = m
		of := prometheus.WrapRegistererWith(prometheus.Labels{"account": a.Name}, s.registry)
		of.MustRegister(m.all()...)
		of.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "kyclink_account_ready", Help: "1 if this process works for the account, else 0. Only of a process that works for several accounts.",
		}, func() float64 { return oneIf(a.Ready() == nil) }))
	}
	return s
}

// Of returns what the process counts of one of its several accounts.
func (s *Server) Of(account string) *Metrics { return s.accounts[account] }

// newBare makes a server that counts nothing itself.
func newBare(cfg Config, accounts ...Config) *Server {
	s := &Server{registry: prometheus.NewRegistry(), log: cfg.Log, accounts: map[string]*Metrics{}}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "kyclink_build_info", Help: "Always 1; its label is the version of kyclink.", ConstLabels: prometheus.Labels{"version": cfg.Version},
	})
	build.Set(1)
	s.registry.MustRegister(build, newAccounts(accounts), collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return s
}

// WatchCertificate adds the metric of when the TLS certificate of this process expires, which
// ends returns. It is called once.
func (s *Server) WatchCertificate(ends func() time.Time) {
	s.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "kyclink_certificate_expiry_timestamp_seconds", Help: "When the TLS certificate of this process expires, in seconds since 1970; absent without TLS.",
	}, func() float64 { return float64(ends().Unix()) }))
}

// Serve answers requests on l until ctx ends, and closes l. ready returns why the
// process does not work, without a secret; nil if it does.
func (s *Server) Serve(ctx context.Context, l net.Listener, ready func() error) {
	server := &http.Server{
		Handler: s.handler(ready), ReadHeaderTimeout: headersWithin, ReadTimeout: requestWithin, WriteTimeout: requestWithin,
		IdleTimeout: idleWithin, MaxHeaderBytes: mostHeaders,
		ErrorLog: zap.NewStdLog(s.log.WithOptions(zap.IncreaseLevel(zap.ErrorLevel))), // errors of clients are not logged
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	select {
	case err := <-served:
		s.log.Error("serve health and metrics", zap.Error(err))
		return
	case <-ctx.Done():
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), endWithin)
	defer cancel()
	if server.Shutdown(ending) != nil {
		_ = server.Close() // the error is that of connections that were closed already
	}
}

func (s *Server) handler(ready func() error) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError, ErrorLog: zap.NewStdLog(s.log), MaxRequestsInFlight: scrapesAtOnce, EnableOpenMetrics: true,
	}))
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { answer(w, nil) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		err := ready()
		if err == nil {
			err = s.written()
		}
		answer(w, err)
	})
	return mux
}

// answer responds with "ok", or with 503 and the problem.
func answer(w http.ResponseWriter, problem error) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	text := "ok\n"
	if problem != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		text = problem.Error() + "\n"
	}
	_, _ = io.WriteString(w, text) // an error means that the client has gone
}
