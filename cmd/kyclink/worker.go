package main

import (
	"os"

	"github.com/spf13/cobra"
	"go.uber.org/zap/zapcore"

	"github.com/kyclink/kyclink/internal/config"
)

func newWorker() *cobra.Command {
	var simulate bool
	cmd := &cobra.Command{
		Use:   "worker",
		Short: "create the links of requests that are enqueued in Redis",
		Long: `worker takes requests from Redis, calls FaceKi, and publishes every link in the
results stream. Run as many as you like; they share the work.

It stops softly on SIGINT or SIGTERM: calls that were sent are seen through.`,
		Example: `  KYCLINK_REDIS_URL=redis://127.0.0.1:6379/0 kyclink worker --simulate`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(os.Environ(), config.Needs{FaceKi: true, Redis: true, Simulate: simulate, Terminal: onTerminal()})
			if err != nil {
				return err
			}
			log := newLogger(cfg, zapcore.Lock(os.Stderr))
			e, err := openEngine(cmd.Context(), cfg, log)
			if err != nil {
				return err
			}
			defer e.close()
			announce(os.Stderr, e.cfg)
			w, err := e.newWorker(cmd.Context(), e.ledger)
			if err != nil {
				return err
			}
			return w.Run(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&simulate, "simulate", false, "make simulated links: by the simulator at FACEKI_BASE_URL, or one in this process")
	return cmd
}
