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
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
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
	takes       time.Duration // usually, in make bench
	timeout     time.Duration // for all sizes but long
	run         func(context.Context, *suite) ([]figure, error)
}

func scenarios() []scenario {
	return slices.Concat(drains(), imports(), rates(), signups(), callbacks(), tokens(), outages(), credits(), storms(), exports(), apis(), growths(), consoles(), accounts())
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
	file := flags.String("json", "", "also write the figures to a `file`; those of scenarios that were not run stay in it")
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
	about := b.describe(ctx)
	fmt.Fprintf(out, "kyclink %s, %s; %s, %s; everything on loopback, with the simulator in this process\n", about.Commit, about.Date, about.Hardware, about.Software)
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

// runAll runs the matching scenarios, each several times if it is short and the time allows
// it. It returns false if any failed.
func (b *suite) runAll(ctx context.Context, match *regexp.Regexp, reps int, out io.Writer) (all []result, ok bool) {
	ok = true
	selected := slices.DeleteFunc(scenarios(), func(s scenario) bool { return !match.MatchString(s.name) })
	began, about := time.Now(), b.describe(ctx)
	for i, s := range selected {
		if ctx.Err() != nil {
			break
		}
		fmt.Fprintf(out, "\n%s: %s\n", s.name, s.about)
		m := result{Scenario: s.name, About: s.about, provenance: about}
		var repetitions [][]figure
		for n := range s.repetitions(reps) {
			if n > 0 && b.size == normal && time.Since(began)+s.takes+remaining(selected[i+1:]) > budget {
				b.note("%s: not repeated, as the time is short", s.name)
				break
			}
			start := time.Now()
			figures, err := b.once(ctx, s)
			b.note("%s: %d of %d took %v", s.name, n+1, s.repetitions(reps), time.Since(start).Round(time.Second))
			if err != nil {
				fmt.Fprintf(out, "  FAILED: %v\n", err)
				m.Error, ok = err.Error(), false
			}
			repetitions = append(repetitions, figures)
			if ctx.Err() != nil {
				break
			}
		}
		m.Rows = rows(repetitions)
		ok = ok && !slices.ContainsFunc(m.Rows, func(r row) bool { return r.Broken })
		ok = table(out, m) == nil && ok
		all = append(all, m)
	}
	if len(all) > 1 {
		fmt.Fprintf(out, "\nall figures with a target, after %v:\n", time.Since(began).Round(time.Second))
		ok = table(out, all...) == nil && ok
	}
	return all, ok && ctx.Err() == nil
}

// budget is the time of make bench on two cores. Short scenarios are repeated only as long
// as the others can run within it.
const budget = 40 * time.Minute

// remaining returns the time of scenarios that run once.
func remaining(scenarios []scenario) (sum time.Duration) {
	for _, s := range scenarios {
		sum += s.takes
	}
	return sum
}

func (s scenario) repetitions(reps int) int {
	if s.repeated {
		return reps
	}
	return 1
}

func (b *suite) once(ctx context.Context, s scenario) ([]figure, error) {
	timeout := s.timeout + pick(b, 0, 0, 20*time.Minute)
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("timed out after %v", timeout))
	defer cancel()
	return s.run(ctx, b)
}
