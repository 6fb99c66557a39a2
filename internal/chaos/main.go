// Command chaos is the fault suite. It requests links through real `kyclink worker` and
// `kyclink serve` processes, a real Redis and a simulated FaceKi, while it injects faults
// into all of them on a schedule derived from a seed. Then it stops the faults, waits until
// all requests have ended, and checks that every promise was kept. See make chaos.
//
// The exit code is 0 if there is no violation, and 1 otherwise. In the latter case, the
// data and logs are kept.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"go.uber.org/goleak"
)

func main() {
	os.Exit(command(os.Args[1:], os.Stdout, os.Stderr)) //nolint:forbidigo // this is main
}

func command(args []string, out, notes io.Writer) int {
	cfg := config{notes: notes}
	flags := flag.NewFlagSet("chaos", flag.ContinueOnError)
	flags.SetOutput(notes)
	flags.Uint64Var(&cfg.seed, "seed", 0, "seed of the schedule and the requests; 0: random")
	flags.DurationVar(&cfg.duration, "duration", time.Minute, "time during which faults are injected")
	flags.DurationVar(&cfg.drain, "drain", 6*time.Minute, "maximum time afterwards until all requests have ended")
	flags.DurationVar(&cfg.gap, "gap", 1500*time.Millisecond, "average time between two faults")
	only := flags.String("only", "", "inject only these `kinds` or groups of faults, separated by commas")
	flags.StringVar(&cfg.redis, "redis", "single", "Redis topology: single, sentinel or cluster")
	flags.StringVar(&cfg.kyclink, "kyclink", "bin/kyclink-failpoint", "`binary` to test, built with the tag failpoint and without -race")
	flags.IntVar(&cfg.workers, "workers", 3, "number of worker processes")
	flags.Float64Var(&cfg.rate, "rate", 60, "calls per second that FaceKi allows")
	flags.IntVar(&cfg.burst, "burst", 10, "burst of calls that FaceKi allows")
	if err := flags.Parse(args); err != nil || flags.NArg() > 0 {
		return 2
	}
	if cfg.seed == 0 {
		cfg.seed = rand.Uint64N(1_000_000)
	}
	if *only != "" {
		cfg.only = strings.Split(*only, ",")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	ok, err := runOnce(ctx, cfg, out)
	if err != nil {
		fmt.Fprintln(notes, "chaos:", err)
	}
	if err != nil || !ok {
		return 1
	}
	http.DefaultClient.CloseIdleConnections()
	stop()
	if err := goleak.Find(foreignGoroutines()...); err != nil {
		fmt.Fprintln(notes, "chaos:", err)
		return 1
	}
	return 0
}

// foreignGoroutines excludes goroutines that this program cannot stop: the signal handler,
// and those that toxiproxy leaks when it closes a link with data in transit.
func foreignGoroutines() []goleak.Option {
	return []goleak.Option{
		goleak.IgnoreTopFunction("os/signal.loop"), goleak.IgnoreTopFunction("os/signal.signal_recv"),
		goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2.(*ToxicLink).read"),
		goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2.(*ToxicLink).write"),
		goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2/toxics.(*ToxicStub).Run"),
	}
}

// runOnce runs the suite in a new directory, which it removes if there is no violation, and
// prints the violations.
func runOnce(ctx context.Context, cfg config, out io.Writer) (ok bool, err error) {
	if cfg.kyclink, err = filepath.Abs(cfg.kyclink); err != nil {
		return false, err
	}
	if cfg.dir, err = os.MkdirTemp("", "kyclink-chaos-"); err != nil {
		return false, err
	}
	violations, err := run(ctx, cfg, out)
	if err == nil && len(violations) == 0 {
		fmt.Fprintf(out, "\nno violations\n")
		return true, os.RemoveAll(cfg.dir)
	}
	if err != nil && len(violations) == 0 {
		return false, fmt.Errorf("the checks did not run; data and logs are in %s: %w", cfg.dir, err)
	}
	const limit = 50
	for _, text := range violations[:min(len(violations), limit)] {
		fmt.Fprintln(out, "VIOLATION:", text)
	}
	fmt.Fprintf(out, "\n%d violations with seed %d; data and logs are in %s\n", len(violations), cfg.seed, cfg.dir)
	return false, err
}
