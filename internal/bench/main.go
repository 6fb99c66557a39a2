// Command bench measures the promises of kyclink with its own Redis, its own simulated FaceKi
// and real `kyclink worker` processes, all on loopback. It prints every figure with its
// target. See make bench.
//
// The exit code is 0 even if a target is missed. It is 1 after a failure: a request failed, a
// window contained more calls than the limit allows, a process ended unexpectedly, or a
// scenario timed out.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"runtime"
	"slices"
	"syscall"
	"time"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) //nolint:forbidigo // this is main
}

// suite holds the options of a run.
type suite struct {
	kyclink string // path of the program to measure
	size    int    // size of the scenarios
	notes   io.Writer
}

// The sizes of the scenarios.
const (
	short  = iota // to try a scenario
	normal        // make bench
	long          // make bench-long
)

// pick returns the value for the selected size.
func pick[T any](b *suite, forShort, forNormal, forLong T) T {
	return []T{forShort, forNormal, forLong}[b.size]
}

func (b *suite) note(format string, args ...any) { fmt.Fprintf(b.notes, format+"\n", args...) }

// scenario is one measurement.
type scenario struct {
	name, about string
	repeated    bool          // it is short, so it runs several times
	timeout     time.Duration // for all sizes but long
	run         func(context.Context, *suite) ([]figure, error)
}

func scenarios() []scenario {
	return slices.Concat(rates(), signups(), drains(), callbacks(), tokens(), outages(), credits(), storms(), exports(), imports(), apis(), consoles())
}

func run(args []string, out, notes io.Writer) int {
	if slices.Equal(args, []string{baselineArg}) {
		return baseline(notes)
	}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(notes)
	b := &suite{size: normal, notes: notes}
	flags.StringVar(&b.kyclink, "kyclink", "bin/kyclink", "the `binary` to measure, built without -race")
	pattern := flags.String("run", "", "run only the scenarios whose names match the `regexp`")
	reps := flags.Int("reps", 3, "repetitions of the short scenarios")
	isShort := flags.Bool("short", false, "run shorter scenarios, to try them")
	isLong := flags.Bool("long", false, "run longer scenarios")
	file := flags.String("json", "", "also write the figures to a `file`")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	match, err := regexp.Compile(*pattern)
	if err != nil || *reps < 1 || flags.NArg() > 0 {
		fmt.Fprintln(notes, "bench: usage:", err)
		flags.Usage()
		return 2
	}
	switch {
	case *isShort:
		b.size = short
	case *isLong:
		b.size = long
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	ctx, cancel := withParent(ctx)
	defer cancel()
	fmt.Fprintln(out, machine(ctx))
	all, ok := b.runAll(ctx, match, *reps, out)
	if *file != "" {
		if err := write(*file, all); err != nil {
			fmt.Fprintln(notes, "bench:", err)
			ok = false
		}
	}
	if !ok {
		return 1
	}
	return 0
}

// withParent cancels the context when the parent process ends, because `go run` does not
// forward signals.
func withParent(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	parent := os.Getppid()
	go func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for ctx.Err() == nil {
			select {
			case <-ctx.Done():
			case <-tick.C:
				if os.Getppid() != parent {
					cancel(errors.New("the parent process ended"))
				}
			}
		}
	}()
	return ctx, func() { cancel(nil) }
}

// runAll runs the matching scenarios. It returns false if any failed.
func (b *suite) runAll(ctx context.Context, match *regexp.Regexp, reps int, out io.Writer) (all []row, ok bool) {
	ok = true
	for _, s := range scenarios() {
		if !match.MatchString(s.name) || ctx.Err() != nil {
			continue
		}
		fmt.Fprintf(out, "\n%s: %s\n", s.name, s.about)
		n := 1
		if s.repeated {
			n = reps
		}
		var repetitions [][]figure
		for i := range n {
			start := time.Now()
			figures, err := b.once(ctx, s)
			b.note("%s: %d of %d took %v", s.name, i+1, n, time.Since(start).Round(time.Second))
			if err != nil {
				fmt.Fprintf(out, "  FAILED: %v\n", err)
				ok = false
			}
			repetitions = append(repetitions, figures)
			if ctx.Err() != nil {
				break
			}
		}
		these := rows(s.name, repetitions)
		ok = ok && !slices.ContainsFunc(these, func(r row) bool { return r.Broken })
		ok = table(out, these) == nil && ok
		all = append(all, these...)
	}
	return all, ok && ctx.Err() == nil
}

func (b *suite) once(ctx context.Context, s scenario) ([]figure, error) {
	timeout := s.timeout + pick(b, 0, 0, 20*time.Minute)
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("timed out after %v", timeout))
	defer cancel()
	return s.run(ctx, b)
}

// machine describes the machine on one line.
func machine(ctx context.Context) string {
	version, err := exec.CommandContext(ctx, "redis-server", "--version").Output()
	found := regexp.MustCompile(`v=(\S+)`).FindSubmatch(version)
	redis := "no redis-server"
	if err == nil && found != nil {
		redis = "Redis " + string(found[1])
	}
	return fmt.Sprintf("%d cores, %s/%s, %s, %s; everything on loopback, with the simulator in this process",
		runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version(), redis)
}

func write(file string, all []row) error {
	raw, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(raw, '\n'), 0o600)
}
