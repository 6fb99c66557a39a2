// Command kyclink turns "this person needs a KYC link" into "here is the link",
// through FaceKi's API. See README.md, or kyclink --help.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/kyclink/kyclink/internal/bulk"
	"github.com/kyclink/kyclink/internal/config"
)

// version is set by the linker.
var version = "dev"

func main() { os.Exit(run(os.Args[1:])) }

// Exit codes, which scripts rely on.
const (
	exitError       = 1
	exitNotCreated  = 2 // done, but some row or the request was not created
	exitWaiting     = 3 // stopped waiting, nothing lost
	exitUsage       = 64
	exitInput       = 65
	exitInterrupted = 128 // plus the signal's number
)

// codeError says with which code to exit.
type codeError struct {
	code int
	err  error // for people; nil where they have been told already
}

func (e *codeError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *codeError) Unwrap() error { return e.err }

// signalError is the cause of a context that a signal ended.
type signalError struct{ signal syscall.Signal }

func (e *signalError) Error() string { return "stopped by " + e.signal.String() }

// gcPercent trades some 20 MiB for a fifth of an import's or a drain's time, which
// many small objects make; GOGC overrides it.
const gcPercent = 400

func run(args []string) int {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	ctx, stop := withSignals(context.Background())
	defer stop()
	root := newRoot()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err != nil && err.Error() != "" {
		text := "kyclink: " + err.Error()
		if more := config.Explain(err); more != "" {
			text += "\n" + more
		}
		fmt.Fprintln(root.ErrOrStderr(), text)
	}
	return exitCode(err)
}

// exitCode goes by the type of the error. A codeError was made for this, so that
// it wins over what it wraps.
func exitCode(err error) int {
	if err == nil {
		return 0
	}
	if e, ok := errors.AsType[*codeError](err); ok {
		return e.code
	}
	if e, ok := errors.AsType[*signalError](err); ok {
		return exitInterrupted + int(e.signal)
	}
	if _, ok := errors.AsType[*config.Error](err); ok {
		return config.ExitCode
	}
	if _, ok := errors.AsType[*bulk.InputError](err); ok {
		return exitInput
	}
	return exitError
}

// withSignals ends the context at the first SIGINT or SIGTERM, whose name is the
// cause. A second one ends the process at once.
func withSignals(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		for received := range signals {
			number, _ := received.(syscall.Signal)
			if ctx.Err() != nil {
				os.Exit(exitInterrupted + int(number))
			}
			cancel(&signalError{number})
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(signals)
		cancel(nil)
	}
}
