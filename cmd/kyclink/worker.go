package main

import (
	"context"
	"net"
	"os"
	"sync"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/kyclink/kyclink/internal/account"
	"github.com/kyclink/kyclink/internal/config"
	"github.com/kyclink/kyclink/internal/intake"
	"github.com/kyclink/kyclink/worker"
)

func newWorker() *cobra.Command {
	var simulate bool
	cmd := &cobra.Command{
		Use:   "worker",
		Short: "Create links for the requests in Redis",
		Long: `Take requests from Redis, call FaceKi, publish each link in the results stream, and
deliver callbacks. Any number of workers can share the work.

A worker also accepts requests from the intake stream {kyclink:ACCOUNT}:requests. An
entry has a field for each key of the request, or one field "request" with the request as
JSON. Entries that cannot be accepted are moved to {kyclink:ACCOUNT}:rejects, with the
reason.

A worker serves the account KYCLINK_ACCOUNT. If KYCLINK_ACCOUNTS names a directory instead,
it serves each account that has a file ACCOUNT.env in it, with settings in lines KEY=VALUE.

Health and metrics are at KYCLINK_OPS_LISTEN: GET /livez, /readyz and /metrics.

On SIGINT or SIGTERM, the worker starts no more calls, finishes those in flight, and
stops.`,
		Example: `  KYCLINK_REDIS_URL=redis://127.0.0.1:6379/0 kyclink worker --simulate
  redis-cli XADD '{kyclink:default}:requests' '*' application_id A-1001
  curl http://127.0.0.1:9090/metrics
  KYCLINK_ACCOUNTS=/etc/kyclink/accounts kyclink worker`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			accounts, err := config.LoadAccounts(os.Environ(), config.Needs{FaceKi: true, Redis: true, Ops: true, Simulate: simulate, Terminal: onTerminal()})
			if err != nil {
				return err
			}
			cfg := accounts[0]
			log := newLogger(cfg, zapcore.Lock(os.Stderr))
			l, err := listenOps(cfg.Ops, log)
			if err != nil {
				return err
			}
			if cfg.File != "" {
				return serveAccounts(cmd.Context(), accounts, log, l)
			}
			return serveAccount(cmd.Context(), cfg, log.With(zap.String("account", cfg.Account)), l)
		},
	}
	cmd.Flags().BoolVar(&simulate, "simulate", false, "create simulated links, with the simulator at FACEKI_BASE_URL or one in this process")
	return cmd
}

// serveAccount runs the worker of one account until ctx is done. l, which may be nil, is the
// listener for health and metrics.
func serveAccount(ctx context.Context, cfg config.Config, log *zap.Logger, l net.Listener) error {
	e, err := openEngine(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer e.close()
	announce(os.Stderr, e.cfg)
	watched := &workerAccount{Reader: e.stores.Account}
	o := e.newOps(watched)
	w, err := e.newWorker(ctx, nil, o.Metrics)
	if err != nil {
		return err
	}
	watched.worker = w
	defer e.serveOps(ctx, l, o, w.Ready)()
	return e.runWorker(ctx, w, o.Entries)
}

// workerAccount is the account whose health a worker serves.
type workerAccount struct {
	*account.Reader
	worker *worker.Worker // set before anything is served
}

// WriteError returns the error of the worker's last heartbeat, or nil if Redis accepted it.
func (a *workerAccount) WriteError() error { return a.worker.Heartbeat() }

// runWorker runs a worker and the reader of the intake stream, and returns when both
// have stopped.
func (e *engine) runWorker(ctx context.Context, w *worker.Worker, settled func(accepted, rejected int)) error {
	reading, stop := context.WithCancel(ctx)
	var reader sync.WaitGroup
	reader.Go(func() { e.readIntake(reading, settled) })
	err := w.Run(ctx)
	stop()
	reader.Wait()
	return err
}

// readIntake accepts the requests of the intake stream until ctx is done.
func (e *engine) readIntake(ctx context.Context, settled func(accepted, rejected int)) {
	intake.New(e.blocking, e.producer(nil), intake.Config{Account: e.cfg.Account, Log: e.log, Limited: e.limited, Settled: settled}).Run(ctx)
}
