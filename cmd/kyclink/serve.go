package main

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/kyclink/kyclink/internal/account"
	"github.com/kyclink/kyclink/internal/api"
	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/audit"
	"github.com/kyclink/kyclink/internal/callback"
	"github.com/kyclink/kyclink/internal/config"
	"github.com/kyclink/kyclink/internal/connection"
	"github.com/kyclink/kyclink/internal/console"
	"github.com/kyclink/kyclink/internal/delivery"
	"github.com/kyclink/kyclink/internal/fleet"
	"github.com/kyclink/kyclink/internal/logging"
	"github.com/kyclink/kyclink/internal/monitor"
	"github.com/kyclink/kyclink/internal/storage"
)

func newServe() *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Serve the HTTP API and the operator console",
		Long: `Serve the HTTP API at KYCLINK_LISTEN; GET /v1/openapi.yaml describes it. Workers create
the links. Every request needs an API key: see "kyclink keys create". Health and metrics
of the process are at KYCLINK_OPS_LISTEN: GET /livez, /readyz and /metrics.

The operator console is at / of the same address. A browser signs in with an API key that
has the scope read; with operate it may also change things.

With KYCLINK_TLS_CERT and KYCLINK_TLS_KEY, the server uses TLS, and reloads the files
when they change. Without them, put a proxy that uses TLS in front of it.

On SIGINT or SIGTERM, the server answers the requests that it has received, and stops.`,
		Example: `  KYCLINK_REDIS_URL=redis://127.0.0.1:6379/0 kyclink serve
  curl http://127.0.0.1:8080/v1/links -H "Authorization: Bearer $KEY" -H 'Prefer: wait=10' \
       --json '{"application_id":"A-1001"}'`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(os.Environ(), config.Needs{Redis: true, API: true, Ops: true, Terminal: onTerminal()})
			if err != nil {
				return err
			}
			log := newLogger(cfg, zapcore.Lock(os.Stderr))
			l, err := listenAt("KYCLINK_LISTEN", cfg.API.Listen)
			if err != nil {
				return err
			}
			defer func() { _ = l.Close() }() // closed already after it was served
			watched, err := listenOps(cfg.Ops, log)
			if err != nil {
				return err
			}
			e := &engine{cfg: cfg, log: log}
			if e.rdb, err = e.openRedis(cmd.Context(), 1); err != nil {
				return err
			}
			defer e.close()
			if err := e.startTracing(cmd.Context()); err != nil {
				return err
			}
			e.warnUnencrypted()
			e.stores = storage.Of(e.rdb, cfg.Account)
			return e.serve(cmd.Context(), l, watched)
		},
	}
}

// serve serves the API at l, and health and metrics at watched, which may be nil.
func (e *engine) serve(ctx context.Context, l, watched net.Listener) error {
	o := e.newOps(struct {
		*account.Reader
		*fleet.Member
	}{e.stores.Account, e.stores.Fleet})
	defer e.serveOps(ctx, watched, o, func() error {
		if ctx.Err() != nil {
			return errors.New("stopping")
		}
		return nil
	})()
	return e.serveAPI(ctx, l, o)
}

// serveAPI serves the API and the console at l.
func (e *engine) serveAPI(ctx context.Context, l net.Listener, o *monitor.Server) error {
	var certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	if cfg := e.cfg.API; cfg.TLS() {
		c, err := api.LoadCertificate(cfg.TLSCert, cfg.TLSKey, e.log)
		if err != nil {
			return err
		}
		certificate = c.Get
		o.WatchCertificate(c.Ends)
	} else if !cfg.Loopback() {
		e.log.Warn("HTTP is not encrypted: API keys and links cross the network in plain text; set KYCLINK_TLS_CERT and KYCLINK_TLS_KEY, or put a proxy that uses TLS in front")
	}
	connections, err := connection.Available(e.rdb, e.blocking)
	if err != nil {
		return err
	}
	limited := logging.Limited(e.log)
	l = connection.Limit(l, connections, func() {
		limited.Warn("all HTTP connections are in use; new connections wait", zap.Int("connections", connections))
	})
	// Commands of concurrent requests share round trips to Redis.
	batched := *e
	batched.rdb = pipelined(e.rdb)
	ping, err := e.ping()
	if err != nil {
		return err
	}
	keys, trail := apikey.NewKeyring(e.rdb, e.cfg.Account), audit.NewTrail(batched.rdb, e.cfg.Account)
	work, err := config.LoadWork(os.Environ())
	if err != nil {
		return err
	}
	pages := console.New(console.Config{
		Redis: e.rdb, Stores: e.stores, Keys: keys, Audit: trail, Refused: o.Refused, Log: e.log, Stopping: ctx.Done(), Ping: ping,
		Importer: e.producer, MaxBody: int64(e.cfg.API.MaxBody), ExpiryMinutes: work.ExpiryMinutes,
	})
	a := api.New(api.Config{
		Redis: e.rdb, Blocking: e.blocking, Stores: e.stores, Client: batched.producer(nil), Importer: e.producer,
		Keys: keys, Audit: trail, MaxBody: int64(e.cfg.API.MaxBody), Log: e.log, Meter: o, Console: pages, TracerProvider: e.traces,
	})
	e.log.Info("listening", zap.String("address", l.Addr().String()), zap.Bool("tls", e.cfg.API.TLS()), zap.String("account", e.cfg.Account))
	return a.Serve(ctx, l, certificate)
}

// ping returns the function that sends test events; nil without settings for callbacks.
func (e *engine) ping() (func(context.Context, string) (delivery.Reply, error), error) {
	if cfg := e.cfg.Callback; !cfg.Callbacks().On() || cfg.Secret == "" {
		return nil, nil //nolint:nilnil // the console says so
	}
	sender, err := callback.New(e.cfg.Callback)
	if err != nil {
		return nil, err
	}
	e.closers = append(e.closers, sender.Close)
	return func(ctx context.Context, to string) (delivery.Reply, error) {
		_, reply, err := sender.Ping(ctx, e.cfg.Account, to)
		return reply, err
	}, nil
}

// pipelined returns a client that sends the commands of several goroutines together. It is
// closed with rdb.
func pipelined(rdb redis.UniversalClient) redis.UniversalClient {
	if auto, ok := rdb.(interface {
		AutoPipeline() (*redis.AutoPipeliner, error)
	}); ok {
		if pipeline, err := auto.AutoPipeline(); err == nil {
			return pipeline
		}
	}
	return rdb
}
