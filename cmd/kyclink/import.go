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
		Short: "Accept a file of people as a batch, whose links workers create",
		Long: `Accept the rows of FILE as a batch. FILE is a CSV or .xlsx file whose header names the
request's keys in any order, or NDJSON; text may be compressed (.gz, .zst). An invalid
row is reported, or written with its reason to the file of --rejects, and the others
are accepted. That file can be corrected and imported.

Column names match without regard to case, blanks, _ and -. The columns that are used
are printed first. An unknown column is an error, unless --ignore-unknown is given; the
columns of an export are ignored. A column whose name is nearly a key is an error,
unless --carry names it.

If the import is interrupted, even by kill -9, the same command continues it: each row
is accepted once. The rows of the batch's earlier files stay in it. Rows whose requests
were accepted elsewhere first, by another batch or a signup, are joined: the batch shows
them, but does not control them.

The flags that are keys of a request set defaults for the batch's rows. They cannot be
changed after the first import.
Exit codes: 0 every row is accepted, 2 some are not, 65 FILE cannot be used.`,
		Example: `  kyclink import people.csv --batch spring --rejects rejects.csv
  kyclink import export.csv --batch spring --map application_id=CustomerRef --ignore-unknown --dry-run
  zstd -dc people.ndjson.zst | kyclink import - --format ndjson --batch spring --expiry-minutes 10080`,
		Args: one("an input file, or - for the standard input"),
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args[0]) },
	}
	cmd.Flags().StringVar(&o.batch, "batch", "", "the batch's name (required)")
	cmd.Flags().StringVar(&o.format, "format", "", "csv, xlsx or ndjson, if FILE's suffix does not name it")
	o.add(cmd)
	cmd.Flags().BoolVar(&o.ignoreUnknown, "ignore-unknown", false, "ignore unknown columns and keys")
	cmd.Flags().StringVar(&o.rejects, "rejects", "", "write rejected rows to this file: FILE's columns and format, with reason and message")
	cmd.Flags().BoolVar(&o.spreadsheet, "spreadsheet", false, "in the file of --rejects, "+spreadsheetHelp)
	cmd.Flags().BoolVar(&o.again, "again", false, "accept also rows that have a link in FILE already")
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "check everything, and print what the import would do and how long the links would take; accept nothing")
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
		return importError(cmd.Context(), err, "")
	}
	defer func() { _ = in.Close() }()
	printMapping(cmd.ErrOrStderr(), in, "ignored")
	return withShared(cmd, func(e *engine) error {
		if !o.dryRun {
			if err := e.audit(cmd.Context(), "batches.import", batch.Name); err != nil {
				return err
			}
		}
		return o.execute(cmd, e, &bulk.Import{Input: in, Batch: batch, IgnoreLinks: o.again})
	})
}

// target checks the flags, and returns how to read FILE, and the batch.
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

// execute runs the import, or a dry run of it, and prints the result.
func (o *importOptions) execute(cmd *cobra.Command, e *engine, job *bulk.Import) error {
	ctx := cmd.Context()
	bar := newFileProgress(os.Stderr, onTerminal(), job.Input)
	defer bar.stop()
	job.OnProgress = bar.report
	var once sync.Once
	job.Client = e.producer(func(full *tasks.BacklogError) {
		once.Do(func() {
			fmt.Fprintf(bar, "kyclink: the import waits while the backlog of the %s lane is full (KYCLINK_MAX_BACKLOG is %d); "+
				"it may be interrupted, and the same command continues it\n", full.Lane, full.Limit)
		})
	})
	rejected := &rejectPrinter{w: bar}
	job.OnReject = rejected.print
	job.OnRounded = func(row input.Row) { printInspection(bar, input.Inspection{Rounded: 1, FirstRounded: row}) }
	closeRejects := func() error { return nil }
	if o.rejects != "" {
		warnIfReadable(cmd.ErrOrStderr(), o.rejects)
		rejects, err := output.CreateRejects(o.rejects, job.Input, o.spreadsheet)
		if err != nil {
			return err
		}
		job.KeepRows, closeRejects = true, rejects.Close
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
	summary := describeCounts(counts)
	if err = cmp.Or(err, closeRejects()); err != nil {
		return importError(ctx, err, summary)
	}
	if rejected.rows > maxPrinted {
		fmt.Fprintf(cmd.ErrOrStderr(), "kyclink: … and %s more; --rejects FILE writes all of them\n", number(rejected.rows-maxPrinted, "row"))
	}
	return o.report(cmd, e, counts, dryRun)
}

// report prints the counts of an import, or those and the forecast of a dry run.
func (o *importOptions) report(cmd *cobra.Command, e *engine, counts bulk.Counts, dryRun bulk.DryRun) error {
	summary := describeCounts(counts)
	if o.dryRun {
		fmt.Fprintf(cmd.ErrOrStderr(), "kyclink: batch %s, dry run: %s\n", o.batch, summary)
		if err := printForecast(cmd, e, dryRun); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(cmd.ErrOrStderr(), "kyclink: batch %s: %s\n", o.batch, summary)
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

// importError returns the error of an import that a signal, Redis or the file ended,
// with the summary of what was done before; "" if that is nothing.
func importError(ctx context.Context, err error, summary string) error {
	if summary != "" {
		summary = " after " + summary
	}
	if s, ok := errors.AsType[*signalError](context.Cause(ctx)); ok {
		return &codeError{exitInterrupted + int(s.signal), fmt.Errorf("%w%s; run the same command again to continue", s, summary)}
	}
	_, unusable := errors.AsType[*input.Error](err)
	_, cancelled := errors.AsType[*tasks.CancelledError](err)
	switch {
	case tasks.ReasonOf(err) != "" || summary == "":
		return err
	case cancelled:
		return fmt.Errorf("%w\nIt ended%s", err, summary)
	case unusable:
		return fmt.Errorf("%w\nIt ended%s; correct the file and run the same command again to continue", err, summary)
	}
	return fmt.Errorf("%w\nIt ended%s; run the same command again to continue", err, summary)
}

func describeCounts(c bulk.Counts) string {
	text := fmt.Sprintf("%s, %d accepted", number(c.Rows, "row"), c.Accepted)
	for _, part := range []struct {
		n    int
		what string
	}{
		{c.Again, "accepted by this batch before"},
		{c.Repeated, "duplicates of another row of this file or an earlier one"},
		{c.Joined, "joined (accepted elsewhere first)"},
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

// maxPrinted is how many rejected rows are printed without --rejects.
const maxPrinted = 10

// rejectPrinter prints the first rejected rows.
type rejectPrinter struct {
	w    *fileProgress
	rows int
}

func (p *rejectPrinter) print(r bulk.Reject) error {
	if p.rows++; p.rows <= maxPrinted {
		fmt.Fprintf(p.w, "kyclink: not accepted: %s\n", r)
	}
	return nil
}
