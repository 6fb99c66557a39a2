package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/kyclink/kyclink/internal/bulk"
	"github.com/kyclink/kyclink/internal/input"
	"github.com/kyclink/kyclink/internal/output"
	"github.com/kyclink/kyclink/tasks"
)

type importOptions struct {
	batch, format  string
	ignoreUnknown  bool
	rejects        string
	dryRun, asJSON bool
	again          bool // make links for rows that have one
	spreadsheet    bool
	values         map[string]*string // batch options, by key
	readingFlags
}

// batchOptions are the keys of a request that a batch can have defaults for.
func batchOptions() []string {
	return []string{"redirect_url", "expiry_minutes", "document_optional", "workflow_id", "callback_url", "not_after"}
}

func newImport() *cobra.Command {
	o := importOptions{values: map[string]*string{}}
	cmd := &cobra.Command{
		Use:   "import FILE --batch NAME",
		Short: "accept a file of people as a batch; workers make the links",
		Long: `import accepts the rows of FILE, a CSV or .xlsx file whose header names the request's
keys in any order, or NDJSON; text may be compressed (.gz, .zst). A row that is wrong is
reported, or written to --rejects as it is with the reason, and the others are accepted.
Rejects can be corrected and imported: their columns reason and message are ignored.

Names match without regard to case, blanks, _ and -. Which columns are used is printed
first. One that no request has is an error, unless --ignore-unknown is given; the columns
of an export are ignored. One that is nearly a key's is an error, unless --carry names it.

Stopped at any point, even by kill -9, the same command goes on: a row is accepted
once, whichever way it comes in again, and what an earlier FILE of the batch had stays
in it. Rows that another batch or a signup asked for are joined: the batch shows them,
and does not control them.

Flags that are a request's keys are defaults for the batch's rows. The first import
fixes them.
Exit codes: 0 every row is accepted, 2 some are not, 65 FILE cannot be used.`,
		Example: `  kyclink import people.csv --batch spring --rejects rejects.csv
  kyclink import export.csv --batch spring --map application_id=CustomerRef --ignore-unknown --dry-run
  zstd -dc people.ndjson.zst | kyclink import - --format ndjson --batch spring --expiry-minutes 10080`,
		Args: one("an input file, or - for the standard input"),
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args[0]) },
	}
	cmd.Flags().StringVar(&o.batch, "batch", "", "the batch's name (required)")
	cmd.Flags().StringVar(&o.format, "format", "", "csv, xlsx or ndjson, where FILE's suffix does not say so")
	o.add(cmd)
	cmd.Flags().BoolVar(&o.ignoreUnknown, "ignore-unknown", false, "leave out columns and keys that no request has")
	cmd.Flags().StringVar(&o.rejects, "rejects", "", "write the rows that are not accepted to this file: FILE's columns and format, with reason and message")
	cmd.Flags().BoolVar(&o.spreadsheet, "spreadsheet", false, "of --rejects: "+spreadsheetHelp)
	cmd.Flags().BoolVar(&o.again, "again", false, "accept rows, too, that have a link in FILE already")
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "check everything and say what would be, and how long it would take; accept nothing")
	cmd.Flags().BoolVar(&o.asJSON, "json", false, "print the counts as JSON")
	for _, key := range batchOptions() {
		o.values[key] = cmd.Flags().String(strings.ReplaceAll(key, "_", "-"), "", "default: "+flagHelp[key])
	}
	return cmd
}

func (o *importOptions) run(cmd *cobra.Command, file string) error {
	reading, batch, err := o.target(cmd, file)
	if err != nil {
		return err
	}
	in, err := input.OpenStream(cmd.Context(), file, reading)
	if err != nil {
		return brokenOff(cmd.Context(), err, "")
	}
	defer func() { _ = in.Close() }()
	tellMapping(cmd.ErrOrStderr(), in, "ignored")
	return withShared(cmd, func(e *engine) error {
		if !o.dryRun {
			if err := e.audit(cmd.Context(), "batches.import", batch.Name); err != nil {
				return err
			}
		}
		return o.take(cmd, e, &bulk.Import{Input: in, Batch: batch, IgnoreLinks: o.again})
	})
}

// target reads the flags.
func (o *importOptions) target(cmd *cobra.Command, file string) (r input.Options, b tasks.Batch, err error) {
	if r, err = o.reading(cmd); err != nil {
		return r, b, err
	}
	r.Strict = !o.ignoreUnknown
	switch r.Format = input.Format(o.format); {
	case o.batch == "":
		return r, b, usageError(cmd, errors.New("name the batch: --batch NAME"))
	case !slices.Contains([]input.Format{"", input.CSV, input.XLSX, input.NDJSON}, r.Format):
		return r, b, usageError(cmd, fmt.Errorf("--format is %q; use csv, xlsx or ndjson", o.format))
	case r.Format == "" && file == input.Stdin:
		return r, b, usageError(cmd, errors.New("say what the standard input holds: --format csv or --format ndjson"))
	}
	if err := output.CheckName(o.rejects); err != nil {
		return r, b, usageError(cmd, fmt.Errorf("--rejects: %w", err))
	}
	b = tasks.Batch{Name: o.batch}
	b.Options, err = o.options(cmd)
	return r, b, err
}

// options reads the batch's defaults.
func (o *importOptions) options(cmd *cobra.Command) (tasks.Options, error) {
	values, none, nobody := map[string]*string{}, "", "-"
	for _, key := range tasks.Keys() {
		values[key] = &none
	}
	values["application_id"] = &nobody
	for key, value := range o.values {
		values[key] = value
	}
	r, err := requestFromFlags(cmd, values)
	return tasks.Options{
		RedirectURL: r.RedirectURL, ExpiryMinutes: r.ExpiryMinutes, DocumentOptional: r.DocumentOptional,
		WorkflowID: r.WorkflowID, CallbackURL: r.CallbackURL, NotAfter: r.NotAfter,
	}, err
}

// take does the import, or says what it would do.
func (o *importOptions) take(cmd *cobra.Command, e *engine, job *bulk.Import) error {
	ctx := cmd.Context()
	bar := newFileProgress(os.Stderr, onTerminal(), job.Input)
	defer bar.stop()
	job.OnProgress = bar.report
	var once sync.Once
	job.Client = e.producer(func(full *tasks.BacklogError) {
		once.Do(func() {
			fmt.Fprintf(bar, "kyclink: the import waits for room whenever all the %d requests wait that the %s lane may have (KYCLINK_MAX_BACKLOG); "+
				"stop it at any point, the same command goes on\n", full.Limit, full.Lane)
		})
	})
	told := &told{w: bar}
	job.OnReject = told.tell
	job.OnRounded = func(row input.Row) { tellInspection(bar, input.Inspection{Rounded: 1, FirstRounded: row}) }
	over := func() error { return nil }
	if o.rejects != "" {
		warnOfReaders(cmd.ErrOrStderr(), o.rejects)
		rejects, err := output.CreateRejects(o.rejects, job.Input, o.spreadsheet)
		if err != nil {
			return err
		}
		job.KeepRows, over = true, rejects.Close
		job.OnReject = func(r bulk.Reject) error { return rejects.Write(r.Input, string(r.Reason), r.Message()) }
	}
	var counts bulk.Counts
	var dryRun bulk.DryRun
	var err error
	if o.dryRun {
		dryRun, err = job.DryRun(ctx)
		counts = dryRun.Counts
	} else {
		counts, err = job.Run(ctx)
	}
	bar.stop()
	said := describeCounts(counts)
	if err = cmp.Or(err, over()); err != nil {
		return brokenOff(ctx, err, said)
	}
	if told.rows > toldRows {
		fmt.Fprintf(cmd.ErrOrStderr(), "kyclink: … and %s more; --rejects FILE writes all of them\n", number(told.rows-toldRows, "row"))
	}
	return o.tell(cmd, e, counts, dryRun, said)
}

// tell says what became of the rows, or would have.
func (o *importOptions) tell(cmd *cobra.Command, e *engine, counts bulk.Counts, dryRun bulk.DryRun, said string) error {
	if o.dryRun {
		fmt.Fprintf(cmd.ErrOrStderr(), "kyclink: batch %s, dry run: %s\n", o.batch, said)
		if err := printForecast(cmd, e, dryRun); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(cmd.ErrOrStderr(), "kyclink: batch %s: %s\n", o.batch, said)
	}
	if o.asJSON {
		if err := printJSON(cmd.OutOrStdout(), counts); err != nil {
			return err
		}
	}
	if counts.Rejected() > 0 {
		return &codeError{code: exitNotCreated}
	}
	return nil
}

// brokenOff makes of whatever a signal or Redis broke off what that means.
func brokenOff(ctx context.Context, err error, said string) error {
	if said != "" {
		said = " after " + said
	}
	if s, ok := errors.AsType[*signalError](context.Cause(ctx)); ok {
		return &codeError{exitInterrupted + int(s.signal), fmt.Errorf("%w%s; run the same command again to continue", s, said)}
	}
	_, unusable := errors.AsType[*input.Error](err)
	_, cancelled := errors.AsType[*tasks.CancelledError](err)
	switch {
	case tasks.ReasonOf(err) != "" || said == "":
		return err
	case cancelled:
		return fmt.Errorf("%w\nIt ended%s", err, said)
	case unusable:
		return fmt.Errorf("%w\nIt ended%s; mend the file and run the same command again to continue", err, said)
	}
	return fmt.Errorf("%w\nIt ended%s; run the same command again to continue", err, said)
}

func describeCounts(c bulk.Counts) string {
	text := fmt.Sprintf("%s, %d accepted", number(c.Rows, "row"), c.Accepted)
	for _, part := range []struct {
		n    int
		what string
	}{
		{c.Again, "accepted by this batch before"},
		{c.Repeated, "duplicates of another row, of this file or one before"},
		{c.Joined, "joined (asked for elsewhere before)"},
		{c.Conflicts, "in conflict with what was accepted before"},
		{c.Refused, "refused for their generation"},
		{c.Invalid, "invalid"},
		{c.Linked, "skipped, as they have a link in FILE already (--again accepts them)"},
	} {
		if part.n > 0 {
			text += fmt.Sprintf(", %d %s", part.n, part.what)
		}
	}
	return text
}

// toldRows is how many rows are told of where there is no --rejects.
const toldRows = 10

// told tells of the first rows that were not accepted.
type told struct {
	w    *fileProgress
	rows int
}

func (t *told) tell(r bulk.Reject) error {
	if t.rows++; t.rows <= toldRows {
		fmt.Fprintf(t.w, "kyclink: not accepted: %s\n", r)
	}
	return nil
}
