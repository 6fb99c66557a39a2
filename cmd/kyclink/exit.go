package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/kyclink/kyclink/internal/config"
	"github.com/kyclink/kyclink/internal/input"
)

// Exit codes, which scripts rely on.
const (
	exitError       = 1
	exitNotCreated  = 2 // done, but some row or the request has no link
	exitWaiting     = 3 // stopped waiting; nothing is lost
	exitUsage       = 64
	exitInput       = 65
	exitInterrupted = 128 // plus the signal's number
)

// codeError is an error with the exit code for it.
type codeError struct {
	code int
	err  error // nil if everything has been printed
}

func (e *codeError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *codeError) Unwrap() error { return e.err }

// signalError is the cause of a context that a signal cancelled.
type signalError struct{ signal syscall.Signal }

func (e *signalError) Error() string { return "stopped by " + e.signal.String() }

// exitCode returns the exit code for an error, by its type. A codeError takes precedence
// over the error that it wraps.
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
	if _, ok := errors.AsType[*input.Error](err); ok {
		return exitInput
	}
	return exitError
}

// stopped returns the signal that caused an error, if one did, or else the error. If nobody
// reads the output, nothing is said.
func stopped(ctx context.Context, err error) error {
	s, ok := errors.AsType[*signalError](context.Cause(ctx))
	switch {
	case !ok || err == nil:
		return err
	case s.signal == syscall.SIGPIPE:
		return &codeError{code: exitInterrupted + int(s.signal)}
	}
	return s
}

const runAgain = "run the same command again to continue"

// incomplete returns the error of a command that can be run again to continue. done says
// what it did before, such as "12 retried".
func incomplete(ctx context.Context, err error, done string) error {
	return incompleteHint(ctx, err, done, runAgain)
}

// incompleteHint is incomplete with another hint how to continue.
func incompleteHint(ctx context.Context, err error, done, hint string) error {
	if s, ok := errors.AsType[*signalError](context.Cause(ctx)); ok {
		return &codeError{exitInterrupted + int(s.signal), fmt.Errorf("%w: %s; %s", s, done, hint)}
	}
	return fmt.Errorf("%w\n%s before that; %s", err, done, hint)
}
