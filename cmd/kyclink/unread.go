//go:build linux || darwin

package main

import (
	"context"
	"os"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// endUnread ends the context of a command, as SIGPIPE would, when nobody reads one of its
// outputs any more, as after "| head -1": a command that watches may have nothing to write
// for hours. The caller must call the returned function.
func endUnread(cmd *cobra.Command, outputs ...*os.File) (stop func()) {
	ctx, cancel := context.WithCancelCause(cmd.Context())
	cmd.SetContext(ctx)
	go func() {
		if unread(ctx, outputs) {
			cancel(&signalError{syscall.SIGPIPE})
		}
	}()
	return func() { cancel(nil) }
}

// unread waits until one of the outputs has no reader, or until ctx ends. Files and
// terminals have one.
func unread(ctx context.Context, outputs []*os.File) bool {
	polled := make([]unix.PollFd, len(outputs))
	for i, f := range outputs {
		polled[i].Fd = int32(f.Fd()) //nolint:gosec // a descriptor is small
	}
	for ctx.Err() == nil {
		// Without an event that it waits for, poll reports only errors.
		n, err := unix.Poll(polled, int(time.Second.Milliseconds()))
		if err != nil && err != unix.EINTR {
			return false
		}
		for i := range polled {
			if n > 0 && polled[i].Revents&(unix.POLLERR|unix.POLLHUP) != 0 {
				return true
			}
		}
	}
	return false
}
