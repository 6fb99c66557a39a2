package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sync/errgroup"

	"github.com/kyclink/kyclink/internal/config"
	"github.com/kyclink/kyclink/internal/faceki/simulator"
)

// devSimulator is the address of the simulator of dev, unless it is in use.
const devSimulator = "127.0.0.1:8888"

type devOptions struct {
	faults, data string
	sample       bool
}

func newDev() *cobra.Command {
	var o devOptions
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Try everything in one process, with simulated links",
		Long: `Run a worker, the HTTP API, the operator console and a simulated FaceKi in one process,
with an embedded Redis, and print an API key and three commands to try. Nothing else is
needed, and nobody is billed: every link is simulated.

The faults of FaceKi can be switched while it runs: on a terminal by typing their name,
and anywhere with PUT /_simulator/faults/NAME at the simulator's address:

  off        every call succeeds
  some       one call in twenty fails, in two ways
  outage     every call fails with HTTP 503, so that the gate closes
  no-credit  every call is refused because the account has no credit

What it stored is lost when it ends, unless --data names a directory to keep it in. It is
saved when the process stops; a second Ctrl-C meanwhile loses what was not saved.

The API listens at KYCLINK_LISTEN, or at a free port if the default is in use. Settings of
Redis and FaceKi are ignored, except FACEKI_RATE and FACEKI_BURST. Traces are sent if the
OTEL_ variables say where to. Nothing is logged unless KYCLINK_LOG_LEVEL is set.`,
		Example: `  kyclink dev
  kyclink dev --sample --faults
  kyclink dev --faults=outage
  kyclink dev --data ~/.kyclink-dev`,
		Args: devArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	cmd.Flags().BoolVar(&o.sample, "sample", false, "begin with a batch of 2,000 invented people; a few of them get no link")
	cmd.Flags().StringVar(&o.faults, "faults", string(simulator.NoFaults), "begin with these `FAULTS`: off, some, outage or no-credit; some if none are named")
	cmd.Flags().Lookup("faults").NoOptDefVal = string(simulator.SomeFaults)
	cmd.Flags().StringVar(&o.data, "data", "", "keep what is stored in the directory `DIR`")
	return cmd
}

// devArgs refuses arguments, and explains how to name faults.
func devArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 1 && cmd.Flags().Changed("faults") {
		if args[0] == "" {
			return errors.New("--faults is empty; write --faults=NAME, or --faults alone")
		}
		if p, err := simulator.ParsePreset(args[0]); err == nil {
			return fmt.Errorf("unexpected argument %q; write --faults=%s", args[0], p)
		}
	}
	return noArgs(cmd, args)
}

func (o devOptions) run(cmd *cobra.Command) error {
	faults, err := simulator.ParsePreset(o.faults)
	if err != nil {
		return usageError(cmd, fmt.Errorf("--faults: %w", err))
	}
	// The data must not be lost when the terminal is closed.
	ctx, stop := context.WithCancel(cmd.Context())
	defer stop()
	defer onHangup(stop)()
	environ, ignored := devEnvironment(os.Environ())
	if len(ignored) > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "kyclink: dev uses an embedded Redis and a simulator, and ignores %s\n", strings.Join(ignored, ", "))
	}
	cfg, err := config.Load(environ, config.Needs{FaceKi: true, Simulate: true, API: true, Ops: true, Terminal: onTerminal()})
	if err != nil {
		return err
	}
	if _, given := os.LookupEnv("KYCLINK_LOG_LEVEL"); !given {
		cfg.Log.Level = "error"
	}
	d := &dev{data: o.data, out: cmd.OutOrStdout()}
	defer d.close()
	if err := d.open(ctx, cfg, newLogger(cfg, zapcore.Lock(os.Stderr)), faults); err != nil {
		return err
	}
	if o.sample {
		if err := d.addSample(ctx); err != nil {
			return err
		}
	}
	return d.serve(ctx)
}

// serve runs the parts until ctx ends or one of them fails, and keeps the data.
func (d *dev) serve(ctx context.Context) error {
	w, metrics, err := d.newWorker(ctx)
	if err != nil {
		return err
	}
	d.welcome()
	defer context.AfterFunc(ctx, d.simulator.Release)() // the worker waits for its calls
	if onTerminal() && readable(os.Stdin) {
		go d.readFaults(os.Stdin) // it ends with the process
	}
	parts, running := errgroup.WithContext(ctx)
	parts.Go(func() error { return d.runWorker(running, w, metrics.Entries) })
	parts.Go(func() error { return d.serveAPI(running, d.listener, metrics) })
	parts.Go(func() error { return d.sayStopping(running) })
	stopOps := d.serveOps(ctx, d.watched, metrics, w.Ready)
	err = parts.Wait()
	stopOps()
	return errors.Join(err, d.save(context.WithoutCancel(ctx)))
}

// devEnvironment removes the settings of a real Redis and of FaceKi from an environment,
// and returns their names.
func devEnvironment(environ []string) (kept, ignored []string) {
	removed := []string{
		"KYCLINK_REDIS_URL", "KYCLINK_REDIS_MODE", "KYCLINK_REDIS_ALLOW_EVICTION", "KYCLINK_REDIS_ALLOW_SKIP_VERIFY",
		"KYCLINK_REDIS_CA", "KYCLINK_REDIS_CERT", "KYCLINK_REDIS_KEY",
		"FACEKI_CLIENT_ID", "FACEKI_CLIENT_SECRET", "FACEKI_BASE_URL", "FACEKI_LINK_HOSTS",
	}
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		if slices.Contains(removed, strings.TrimSuffix(name, "_FILE")) {
			ignored = append(ignored, name)
			continue
		}
		kept = append(kept, entry)
	}
	return kept, ignored
}

// listenOr listens at an address, or at a free port of the loopback address if it is in
// use.
func listenOr(address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return net.Listen("tcp", "127.0.0.1:0")
	}
	return l, err
}
