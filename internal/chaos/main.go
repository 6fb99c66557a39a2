// Command chaos checks that nothing is lost or made twice: it asks for links whose ids it
// knows, through real `kyclink worker` processes, a real Redis and a simulated
// FaceKi, while a schedule that follows from a seed breaks all of them; then it
// lets everything drain and checks whether the promises were kept. See make chaos.
//
// The exit code is 0 where they were, 1 where they were not; then what it worked
// on is kept.
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
	flags.Uint64Var(&cfg.seed, "seed", 0, "of the schedule and the requests; drawn where 0")
	flags.DurationVar(&cfg.duration, "duration", time.Minute, "for how long things are broken")
	flags.DurationVar(&cfg.drain, "drain", 6*time.Minute, "how long it may take until all has ended then")
	flags.DurationVar(&cfg.gap, "gap", 1500*time.Millisecond, "between two faults, about")
	only := flags.String("only", "", "only these `kinds` or groups of faults, separated by commas")
	flags.StringVar(&cfg.redis, "redis", "single", "the Redis: single, sentinel or cluster")
	flags.StringVar(&cfg.kyclink, "kyclink", "bin/kyclink-failpoint", "the `binary` to test, built with the tag failpoint and without -race")
	flags.IntVar(&cfg.workers, "workers", 3, "worker processes")
	flags.Float64Var(&cfg.rate, "rate", 60, "calls a second that FaceKi allows")
	flags.IntVar(&cfg.burst, "burst", 10, "and at once")
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
	if err := goleak.Find(ownGoroutines()...); err != nil {
		fmt.Fprintln(notes, "chaos:", err)
		return 1
	}
	return 0
}

// ownGoroutines leaves out what is not ours to end: the watch for signals, and
// the proxy's, which leaves those of a link behind that it cut with data in it.
func ownGoroutines() []goleak.Option {
	return []goleak.Option{
		goleak.IgnoreTopFunction("os/signal.loop"), goleak.IgnoreTopFunction("os/signal.signal_recv"),
		goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2.(*ToxicLink).read"),
		goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2.(*ToxicLink).write"),
		goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2/toxics.(*ToxicStub).Run"),
	}
}

// runOnce runs the suite in a folder of its own, which is removed if there is no
// violation, and prints the violations.
func runOnce(ctx context.Context, cfg config, out io.Writer) (ok bool, err error) {
	if cfg.kyclink, err = filepath.Abs(cfg.kyclink); err != nil {
		return false, err
	}
	if cfg.dir, err = os.MkdirTemp("", "kyclink-chaos-"); err != nil {
		return false, err
	}
	wrong, err := run(ctx, cfg, out)
	if err == nil && len(wrong) == 0 {
		fmt.Fprintf(out, "\nnothing is wrong\n")
		return true, os.RemoveAll(cfg.dir)
	}
	if err != nil && len(wrong) == 0 {
		return false, fmt.Errorf("the checks did not run; the files are in %s: %w", cfg.dir, err)
	}
	const most = 50
	for _, text := range wrong[:min(len(wrong), most)] {
		fmt.Fprintln(out, "WRONG:", text)
	}
	fmt.Fprintf(out, "\n%d things are wrong with seed %d; Redis' files and the workers' logs are in %s\n", len(wrong), cfg.seed, cfg.dir)
	return false, err
}
