// Command kyclink creates KYC links for people, through FaceKi's API. See README.md, or
// kyclink --help.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/kyclink/kyclink/internal/config"
)

// version is set by the linker.
var version = "dev"

func main() {
	cobra.EnableCommandSorting = false // help lists commands in the order in which they are added
	os.Exit(run(os.Args[1:]))
}

// gcPercent is the default of GOGC. It costs about 20 MiB, and saves a fifth of the time
// of an import or a drain, which allocate many small objects.
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

// withSignals returns a context that the first SIGINT or SIGTERM cancels, with a
// signalError as the cause. A second signal ends the process at once.
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
