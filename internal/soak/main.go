// Command soak runs kyclink at a steady load for minutes or hours, and fails if anything
// grows. It starts a Redis, a simulated FaceKi, a receiver of callbacks, several `kyclink
// worker` and a `kyclink serve`, all on loopback. Links are requested over HTTP, through the
// intake stream and in batches, while FaceKi has outages, ended requests are erased after a
// short retention, and people are forgotten. Every few seconds it measures memory,
// goroutines, descriptors and what Redis holds; at the end it plots them. See make soak.
//
// The exit code is 0 if nothing grew (see [trend.grows]), every request got its link and its
// callback, nothing of an erased request was left, and every process ran until the end
// without a warning outside of outages. It is 1 otherwise.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	os.Exit(command(os.Args[1:], os.Stdout, os.Stderr)) //nolint:forbidigo // this is main
}

// config holds the options of a run.
type config struct {
	kyclink  string        // path of the program
	dir      string        // for measurements, the plot, data and logs
	duration time.Duration // of the load
	rate     float64       // requests per second
	workers  int
	notes    io.Writer // for progress messages
}

// interval returns the time between two samples.
func (c config) interval() time.Duration { return clamp(c.duration/360, time.Second, 10*time.Second) }

// retention returns how long ended requests and events are kept.
func (c config) retention() time.Duration {
	return clamp(c.duration/10, 15*time.Second, 2*time.Minute)
}

// outages returns the time between two outages of FaceKi, and how long each lasts. There is
// at least one in each of the parts that [trendOf] compares.
func (c config) outages() (every, length time.Duration) {
	return clamp(c.duration/6, 6*time.Second, 4*time.Minute), clamp(c.duration/30, 2*time.Second, 20*time.Second)
}

// pause returns the time between two batches, and between two erasures.
func (c config) pause() time.Duration { return clamp(c.duration/30, 3*time.Second, 20*time.Second) }

func clamp(d, lowest, highest time.Duration) time.Duration { return min(max(d, lowest), highest) }

func command(args []string, out, notes io.Writer) int {
	cfg := config{notes: notes}
	flags := flag.NewFlagSet("soak", flag.ContinueOnError)
	flags.SetOutput(notes)
	flags.StringVar(&cfg.kyclink, "kyclink", "bin/kyclink", "`binary` to run, built without -race")
	flags.StringVar(&cfg.dir, "dir", "", "`directory` for measurements, the plot, data and logs; default: a new one for temporary files")
	flags.DurationVar(&cfg.duration, "duration", 30*time.Minute, "time during which links are requested")
	flags.Float64Var(&cfg.rate, "rate", 20, "requests per second")
	flags.IntVar(&cfg.workers, "workers", 2, "number of worker processes")
	if err := flags.Parse(args); err != nil || flags.NArg() > 0 || cfg.rate <= 0 || cfg.workers < 1 || cfg.duration <= 0 {
		fmt.Fprintln(notes, "soak: usage: -duration, -rate and -workers are positive, and there are no arguments")
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	problems, err := runIn(ctx, cfg, out)
	for _, text := range problems {
		fmt.Fprintln(out, "PROBLEM:", text)
	}
	switch {
	case err != nil:
		fmt.Fprintln(notes, "soak:", err)
		return 1
	case len(problems) > 0:
		return 1
	}
	fmt.Fprintln(out, "no problem")
	return 0
}

// runIn runs in the directory of the options, or in a new one, which stays.
func runIn(ctx context.Context, cfg config, out io.Writer) (problems []string, err error) {
	if cfg.kyclink, err = filepath.Abs(cfg.kyclink); err != nil {
		return nil, err
	}
	if cfg.dir == "" {
		if cfg.dir, err = os.MkdirTemp("", "kyclink-soak-"); err != nil {
			return nil, err
		}
	} else if err = os.MkdirAll(cfg.dir, 0o700); err != nil {
		return nil, err
	}
	fmt.Fprintf(out, "measurements, plot and logs are in %s\n", cfg.dir)
	return run(ctx, cfg, out)
}
