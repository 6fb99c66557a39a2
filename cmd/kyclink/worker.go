package main

import (
	"context"
	"os"
	"sync"

	"github.com/spf13/cobra"
	"go.uber.org/zap/zapcore"

	"github.com/kyclink/kyclink/internal/config"
	"github.com/kyclink/kyclink/internal/intake"
	"github.com/kyclink/kyclink/internal/ledger"
	"github.com/kyclink/kyclink/internal/logging"
	"github.com/kyclink/kyclink/worker"
)

func newWorker() *cobra.Command {
	var simulate bool
	cmd := &cobra.Command{
		Use:   "worker",
		Short: "create the links of requests that are enqueued in Redis",
		Long: `worker takes requests from Redis, calls FaceKi, and publishes every link in the
results stream. Run as many as you like; they share the work.

It also takes in what anybody adds to the stream {kyclink:ACCOUNT}:requests: a field
for each key of a request, or one field "request" with its JSON. What cannot be
accepted goes to {kyclink:ACCOUNT}:rejects, with the reason.

Its health and metrics are at KYCLINK_OPS_LISTEN: GET /livez, /readyz and /metrics.

It stops softly on SIGINT or SIGTERM: calls that were sent are seen through.`,
		Example: `  KYCLINK_REDIS_URL=redis://127.0.0.1:6379/0 kyclink worker --simulate
  redis-cli XADD '{kyclink:default}:requests' '*' application_id A-1001
  curl http://127.0.0.1:9090/metrics`,
		Args: cobra.NoArgs,
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
			account := &workerAccount{Ledger: e.ledger}
			o := e.newOps(account)
			w, err := e.newWorker(cmd.Context(), nil, o)
			if err != nil {
				return err
			}
			account.worker = w
			defer e.serveOps(cmd.Context(), l, o, w.Ready)()
			return e.workBesideIntake(cmd.Context(), w, o.Settled)
		},
	}
	cmd.Flags().BoolVar(&simulate, "simulate", false, "make simulated links: by the simulator at FACEKI_BASE_URL, or one in this process")
	return cmd
}

// workerAccount is an account as its worker sees it.
type workerAccount struct {
	*ledger.Ledger
	worker *worker.Worker // set before anything is served
}

// Written returns why Redis did not accept the worker's last heartbeat; nil if it did.
func (a *workerAccount) Written() error { return a.worker.Heartbeat() }

// workBesideIntake runs a worker and the intake stream's reader, and returns when
// both are over.
func (e *engine) workBesideIntake(ctx context.Context, w *worker.Worker, settled func(accepted, rejected int)) error {
	taking, stop := context.WithCancel(ctx)
	in := intake.New(e.blocking, e.producer(nil), intake.Config{Account: e.cfg.Account, Log: e.log, Limited: logging.Limited(e.log), Settled: settled})
	var reading sync.WaitGroup
	reading.Go(func() { in.Run(taking) })
	err := w.Run(ctx)
	stop()
	reading.Wait()
	return err
}
