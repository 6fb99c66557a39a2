package main

import (
	"context"
	"os"
	"sync"

	"github.com/spf13/cobra"
	"go.uber.org/zap/zapcore"

	"github.com/kyclink/kyclink/internal/account"
	"github.com/kyclink/kyclink/internal/config"
	"github.com/kyclink/kyclink/internal/intake"
	"github.com/kyclink/kyclink/internal/logging"
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

Health and metrics are at KYCLINK_OPS_LISTEN: GET /livez, /readyz and /metrics.

On SIGINT or SIGTERM, the worker starts no more calls, finishes those in flight, and
stops.`,
		Example: `  KYCLINK_REDIS_URL=redis://127.0.0.1:6379/0 kyclink worker --simulate
  redis-cli XADD '{kyclink:default}:requests' '*' application_id A-1001
  curl http://127.0.0.1:9090/metrics`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(os.Environ(), config.Needs{FaceKi: true, Redis: true, Ops: true, Simulate: simulate, Terminal: onTerminal()})
			if err != nil {
				return err
			}
			log := newLogger(cfg, zapcore.Lock(os.Stderr))
			l, err := listenOps(cfg.Ops, log)
			if err != nil {
				return err
			}
			e, err := openEngine(cmd.Context(), cfg, log)
			if err != nil {
				return err
			}
			defer e.close()
			announce(os.Stderr, e.cfg)
			watched := &workerAccount{Reader: e.stores.Account}
			o := e.newOps(watched)
			w, err := e.newWorker(cmd.Context(), nil, o)
			if err != nil {
				return err
			}
			watched.worker = w
			defer e.serveOps(cmd.Context(), l, o, w.Ready)()
			return e.runWorker(cmd.Context(), w, o.Entries)
		},
	}
	cmd.Flags().BoolVar(&simulate, "simulate", false, "create simulated links, with the simulator at FACEKI_BASE_URL or one in this process")
	return cmd
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
	in := intake.New(e.blocking, e.producer(nil), intake.Config{Account: e.cfg.Account, Log: e.log, Limited: logging.Limited(e.log), Settled: settled})
	var reader sync.WaitGroup
	reader.Go(func() { in.Run(reading) })
	err := w.Run(ctx)
	stop()
	reader.Wait()
	return err
}
