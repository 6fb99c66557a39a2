// Package monitor is what watches a process from outside: whether it lives, whether it
// works, and its metrics, over HTTP.
//
// Whoever can connect may read all of it, so there is nothing in it that is secret
// or names a person: no request, link or URL, and no receiver's host. Every label has
// few values.
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

	"github.com/kyclink/kyclink/internal/ledger"
)

// Account is what is asked of the account.
type Account interface {
	// Gauges reads what is watched of it.
	Gauges(ctx context.Context) (ledger.Gauges, error)
	// Written says, for anybody to read, why Redis takes no writes of this process;
	// nil while it does.
	Written() error
}

// Config is what an endpoint tells of.
type Config struct {
	// Name is the account's.
	Name    string
	Account Account
	Version string
	// Log gets what goes wrong with the endpoint itself; Limited why an account could
	// not be read, now and then.
	Log, Limited *zap.Logger
}

const (
	headersWithin = 5 * time.Second
	requestWithin = 10 * time.Second // read, or written
	idleWithin    = time.Minute
	mostHeaders   = 8 << 10
	endWithin     = time.Second
	scrapesAtOnce = 8 // more are refused
	// readWithin is how long the account is asked: less than any scraper waits.
	readWithin = 2 * time.Second
)

// Ops is the endpoint of one process.
type Ops struct {
	// Metrics is what the process counts.
	*Metrics
	registry *prometheus.Registry
	written  func() error
	log      *zap.Logger
}

// New makes an endpoint, and the metrics that it shows.
func New(cfg Config) *Ops {
	o := &Ops{Metrics: newMetrics(), registry: prometheus.NewRegistry(), written: cfg.Account.Written, log: cfg.Log}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "kyclink_build_info", Help: "Always 1; its label is the version of kyclink.", ConstLabels: prometheus.Labels{"version": cfg.Version},
	})
	build.Set(1)
	o.registry.MustRegister(o.all()...)
	o.registry.MustRegister(build, newAccount(cfg), collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return o
}

// Serve answers requests that come through l until ctx ends, and closes it. ready
// says, for people, why the process does not work; nil while it does.
func (o *Ops) Serve(ctx context.Context, l net.Listener, ready func() error) {
	server := &http.Server{
		Handler: o.handler(ready), ReadHeaderTimeout: headersWithin, ReadTimeout: requestWithin, WriteTimeout: requestWithin,
		IdleTimeout: idleWithin, MaxHeaderBytes: mostHeaders,
		ErrorLog: zap.NewStdLog(o.log.WithOptions(zap.IncreaseLevel(zap.ErrorLevel))), // what clients do wrong is none of ours
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	select {
	case err := <-served:
		o.log.Error("health and metrics cannot be asked for any more", zap.Error(err))
		return
	case <-ctx.Done():
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), endWithin)
	defer cancel()
	if server.Shutdown(ending) != nil {
		_ = server.Close() // only connections that are closed already fail
	}
}

func (o *Ops) handler(ready func() error) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(o.registry, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError, ErrorLog: zap.NewStdLog(o.log), MaxRequestsInFlight: scrapesAtOnce, EnableOpenMetrics: true,
	}))
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { say(w, nil) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		err := ready()
		if err == nil {
			err = o.written()
		}
		say(w, err)
	})
	return mux
}

// say answers "ok", or 503 with what is wrong.
func say(w http.ResponseWriter, wrong error) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	text := "ok\n"
	if wrong != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		text = wrong.Error() + "\n"
	}
	_, _ = io.WriteString(w, text) // whoever does not take it has gone
}
