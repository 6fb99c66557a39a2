package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/kyclink/kyclink/internal/bulk"
	"github.com/kyclink/kyclink/internal/input"
	"github.com/kyclink/kyclink/tasks"
)

// importError returns the error of an import that a signal, Redis or the file ended,
// with a summary of what was done before. The summary is empty if nothing was done.
func importError(ctx context.Context, err error, summary string) error {
	if summary != "" {
		summary = " after " + summary
	}
	if s, ok := errors.AsType[*signalError](context.Cause(ctx)); ok {
		return &codeError{exitInterrupted + int(s.signal), fmt.Errorf("%w%s; %s", s, summary, runAgain)}
	}
	_, unusable := errors.AsType[*input.Error](err)
	_, cancelled := errors.AsType[*tasks.CancelledError](err)
	switch {
	case tasks.ReasonOf(err) != "" || summary == "":
		return err
	case cancelled:
		return fmt.Errorf("%w\nThe import stopped%s", err, summary)
	case unusable:
		return fmt.Errorf("%w\nThe import stopped%s; correct the file and %s", err, summary, runAgain)
	}
	return fmt.Errorf("%w\nThe import stopped%s; %s", err, summary, runAgain)
}

func describeCounts(c bulk.Counts) string {
	text := fmt.Sprintf("%s, %s accepted", number(c.Rows, "row"), count(c.Accepted))
	for _, part := range []struct {
		n    int
		what string
	}{
		{c.Again, "accepted by this batch before"},
		{c.Repeated, "duplicates of another row of this file or an earlier one"},
		{c.Joined, "joined (accepted elsewhere first)"},
		{c.Conflicts, "in conflict with what was accepted before"},
		{c.Refused, "refused because of their generation"},
		{c.Invalid, "invalid"},
		{c.Linked, "skipped because they already have a link in FILE (--again accepts them)"},
	} {
		if part.n > 0 {
			text += fmt.Sprintf(", %s %s", count(part.n), part.what)
		}
	}
	return text
}

// maxPrinted is how many rejected rows are printed without --rejects.
const maxPrinted = 10

// rejectPrinter prints the first rejected rows.
type rejectPrinter struct {
	w    io.Writer
	rows int
}

func (p *rejectPrinter) print(r bulk.Reject) error {
	if p.rows++; p.rows <= maxPrinted {
		fmt.Fprintf(p.w, "kyclink: not accepted: %s\n", r)
	}
	return nil
}

// printRest says how many rejected rows were not printed.
func (p *rejectPrinter) printRest(w io.Writer) {
	if p.rows > maxPrinted {
		fmt.Fprintf(w, "kyclink: … and %s more; --rejects FILE writes all of them\n", number(p.rows-maxPrinted, "row"))
	}
}

// warnOnceFull returns a function that says the first time it is called that the import
// waits.
func warnOnceFull(w io.Writer) func(*tasks.BacklogError) {
	var once sync.Once
	return func(full *tasks.BacklogError) {
		once.Do(func() {
			fmt.Fprintf(w, "kyclink: waiting, because the backlog of the %s lane is full (KYCLINK_MAX_BACKLOG is %d); "+
				"to continue after an interruption, run the same command again\n", full.Lane, full.Limit)
		})
	}
}
