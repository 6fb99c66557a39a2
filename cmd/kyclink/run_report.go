package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/kyclink/kyclink/internal/column"
	"github.com/kyclink/kyclink/internal/config"
	"github.com/kyclink/kyclink/internal/forecast"
	"github.com/kyclink/kyclink/internal/job"
	"github.com/kyclink/kyclink/internal/journal"
	"github.com/kyclink/kyclink/internal/output"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

// report prints what the output file contains, and returns the error that ends the run.
func (o runOptions) report(w io.Writer, r job.Report, note string) error {
	o.conclude(w, r.Written, r.Scan, note)
	switch {
	case errors.Is(r.Err, job.ErrImpatient):
		return &codeError{exitWaiting, fmt.Errorf("no link was created for %s (--patience)%s; still open: %s. Run the same command again to continue",
			forecast.Short(o.patience), following(r.Why), openCounts(r.Progress))}
	case r.Err != nil:
		return r.Err
	case r.Written.Unfinished():
		return &codeError{code: exitNotCreated}
	}
	return nil
}

// interrupted returns the error of a run that a signal interrupted: how far it came, and
// how to continue it. It includes a failure of the output file or its journal.
func interrupted(ctx context.Context, err error, p job.Progress) error {
	s, ok := errors.AsType[*signalError](context.Cause(ctx))
	if _, said := errors.AsType[*codeError](err); !ok || said || err == nil {
		return err
	}
	far := ""
	if p.AllAccepted {
		far = fmt.Sprintf(" with %s of %s done", count(p.Finished()), count(p.Total()))
	}
	stopped := fmt.Errorf("%w%s; run the same command again to continue", s, far)
	if failed, ok := errors.AsType[*output.Error](err); ok {
		stopped = errors.Join(failed, stopped)
	}
	if failed, ok := errors.AsType[*journal.Error](err); ok {
		stopped = errors.Join(failed, stopped)
	}
	return &codeError{exitInterrupted + int(s.signal), stopped}
}

// announce prints what is used instead of Redis or FaceKi for the accounts of the process, if
// anything.
func announce(w io.Writer, accounts ...config.Config) {
	if accounts[0].EmbeddedRedis() {
		fmt.Fprintln(w, "kyclink: KYCLINK_REDIS_URL is not set: using an embedded Redis, in this process")
	}
	if !accounts[0].FaceKi.Simulated {
		return
	}
	var from []string
	for _, cfg := range accounts {
		simulator := "the simulator at " + cfg.FaceKi.BaseURL
		if cfg.InProcess {
			simulator = "a simulator in this process"
		}
		if !slices.Contains(from, simulator) {
			from = append(from, simulator)
		}
	}
	if len(from) > mostNamed {
		from = []string{fmt.Sprintf("%d simulators", len(from))}
	}
	fmt.Fprintf(w, "kyclink: SIMULATED: links come from %s, not from FaceKi\n", strings.Join(from, " and "))
}

// simulatedNote returns the end of the last line of a job with simulated links.
func simulatedNote(cfg config.Config) string {
	if !cfg.FaceKi.Simulated {
		return ""
	}
	return " (SIMULATED: no link is from FaceKi)"
}

// noted adds a note to the error that is the last line of a job.
func noted(err error, note string) error {
	if err == nil || err.Error() == "" || note == "" {
		return err
	}
	return &codeError{exitCode(err), fmt.Errorf("%w%s", err, note)}
}

// conclude prints what can be done about rows without a link of their own and, in the last
// line, what the output file contains.
func (o runOptions) conclude(w io.Writer, written job.Written, scan job.Scan, note string) {
	for _, r := range scan.First {
		fmt.Fprintf(w, "kyclink: %s\n", r)
	}
	if more := scan.Duplicates - len(scan.First); more > 0 {
		fmt.Fprintf(w, "kyclink: … and %s more\n", number(more, "row"))
	}
	if n := written.Counts[column.Rejected]; n > 0 {
		fmt.Fprintf(w, "kyclink: the column reason says why a row was rejected; correct such rows in FILE, and run the same command again\n")
	}
	if n := written.Counts[tasks.Failed]; n > 0 {
		fmt.Fprintf(w, "kyclink: the column reason says why a row failed; --retry-failed retries failed rows\n")
	}
	if n := written.Counts[tasks.Held]; n > 0 {
		fmt.Fprintf(w, "kyclink: a held row may have a link that only FaceKi's console shows; --retry-held retries held rows, which may bill up to %s\n",
			number(n, "second link"))
	}
	text := describe(written.Counts)
	if written.Linked > 0 {
		text += fmt.Sprintf(" (%s of them already had a link)", count(written.Linked))
	}
	if n := scan.Duplicates; n > 0 {
		text += fmt.Sprintf("; %s the id of an earlier row and share%s its link", verb(n, "1 row has", count(n)+" rows have"), verb(n, "s", ""))
	}
	fmt.Fprintf(w, "%s: %s%s\n", o.out, text, note)
}

// following returns a reason as the continuation of a sentence.
func following(why string) string {
	if why == "" {
		return ""
	}
	return ": " + strings.TrimSuffix(why, ".")
}

// verb returns the form of a verb for the number n.
func verb(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// describe lists how many rows have each status.
func describe(s output.Counts) string {
	var parts []string
	for _, status := range []tasks.Status{tasks.Created, tasks.Failed, column.Rejected, tasks.Cancelled, tasks.Held,
		tasks.Waiting, tasks.Queued, tasks.Calling} {
		if n := s[status]; n > 0 {
			parts = append(parts, fmt.Sprintf("%s %s", count(n), status))
		}
	}
	if parts == nil {
		return "no rows"
	}
	return strings.Join(parts, ", ")
}

// openCounts lists how many rows are in each state that is not an end.
func openCounts(p job.Progress) string {
	var parts []string
	for _, state := range []request.State{request.Waiting, request.Queued, request.Calling} {
		if n := p.Counts[state]; n > 0 {
			parts = append(parts, fmt.Sprintf("%s %s", count(n), state))
		}
	}
	if !p.AllAccepted {
		parts = append(parts, "rows that are not accepted yet, because the backlog is full (KYCLINK_MAX_BACKLOG)")
	}
	if p.JoinedOpen > 0 {
		parts = append(parts, fmt.Sprintf("%s joined (accepted elsewhere first)", count(p.JoinedOpen)))
	}
	return strings.Join(parts, ", ")
}
