package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"

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
	again          bool // also accept rows that have a link
	spreadsheet    bool
	values         map[string]*string // batch options, by key
	readingFlags
}

func newImport() *cobra.Command {
	o := importOptions{values: map[string]*string{}}
	cmd := &cobra.Command{
		Use:   "import FILE --batch NAME",
		Short: "Import a file of people as a batch, whose links workers create",
		Long: `Import the rows of FILE as a batch. Workers create the links.

FILE is a CSV or .xlsx file whose header names the keys of a request in any order, or an
NDJSON file. CSV and NDJSON may be compressed (.gz, .zst). Invalid rows do not stop the
import: each is reported, or written with the reason to the --rejects file, which can be
corrected and imported.

Column names match regardless of case, spaces, _ and -. The columns in use are printed
first. An unknown column is an error unless --ignore-unknown is given; columns that an
export adds are ignored. A column whose name resembles a key is an error unless --carry
names it.

To continue an interrupted import, even after kill -9, run the same command again: each
row is accepted once. Rows of files that were imported earlier stay in the batch. Rows
whose requests were accepted elsewhere first, by another batch or a signup, are joined:
the batch shows them, but does not control them.

Flags that are named after a request's keys set defaults for the batch's rows. They
cannot be changed after the first import.

Exit codes: 0 all rows were accepted, 2 some were not, 65 FILE cannot be used.`,
		Example: `  kyclink import people.csv --batch spring --rejects rejects.csv
  kyclink import export.csv --batch spring --map application_id=CustomerRef --ignore-unknown --dry-run
  zstd -dc people.ndjson.zst | kyclink import - --format ndjson --batch spring --expiry-minutes 10080`,
		Args: one("an input file, or - for standard input"),
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args[0]) },
	}
	cmd.Flags().StringVar(&o.batch, "batch", "", "`NAME` of the batch (required)")
	cmd.Flags().StringVar(&o.format, "format", "", "`FORMAT` of FILE: csv, xlsx or ndjson (default: by its suffix)")
	o.add(cmd)
	cmd.Flags().BoolVar(&o.ignoreUnknown, "ignore-unknown", false, "ignore unknown columns and keys")
	cmd.Flags().StringVar(&o.rejects, "rejects", "", "write rows that are not accepted to `FILE`, in the input's columns and format, with reason and message")
	cmd.Flags().BoolVar(&o.spreadsheet, "spreadsheet", false, "in the --rejects file, "+spreadsheetHelp)
	cmd.Flags().BoolVar(&o.again, "again", false, "also accept rows that already have a link in FILE")
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "check the rows, and print what the import would do and how long the links would take; change nothing")
	cmd.Flags().BoolVar(&o.asJSON, "json", false, "print the counts as JSON")
	for _, key := range bulk.BatchKeys() {
		o.values[key] = cmd.Flags().String(strings.ReplaceAll(key, "_", "-"), "", "default of the rows: "+flagHelp[key])
	}
	return cmd
}

func (o *importOptions) run(cmd *cobra.Command, file string) error {
	reading, batch, err := o.target(cmd, file)
	if err != nil {
		return err
	}
	shareProcessors()
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

// shareProcessors leaves half of the processors to Redis, whose one thread limits an import.
// If both run on two processors, an import is faster by a quarter for it: otherwise Redis'
// thread competes with two of this process. GOMAXPROCS takes precedence.
func shareProcessors() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(max(1, runtime.GOMAXPROCS(0)/2))
	}
}

// target checks the flags, and returns how to read FILE, and the batch.
func (o *importOptions) target(cmd *cobra.Command, file string) (r input.Options, b tasks.Batch, err error) {
	if r, err = o.reading(cmd); err != nil {
		return r, b, err
	}
	r.Strict = !o.ignoreUnknown
	switch r.Format = input.Format(o.format); {
	case o.batch == "":
		return r, b, usageError(cmd, errors.New("--batch is required; name the batch with --batch NAME"))
	case !slices.Contains([]input.Format{"", input.CSV, input.XLSX, input.NDJSON}, r.Format):
		return r, b, usageError(cmd, fmt.Errorf("--format is %q; use csv, xlsx or ndjson", o.format))
	case r.Format == "" && file == input.Stdin:
		return r, b, usageError(cmd, errors.New("the format of standard input is unknown; give --format csv or --format ndjson"))
	}
	if err := output.CheckName(o.rejects); err != nil {
		return r, b, usageError(cmd, fmt.Errorf("--rejects: %w", err))
	}
	b = tasks.Batch{Name: o.batch}
	b.Options, err = o.options(cmd)
	return r, b, err
}

// options returns the batch's defaults, which are validated like those of a request.
func (o *importOptions) options(cmd *cobra.Command) (tasks.Options, error) {
	values, empty, anyID := map[string]*string{}, "", "-"
	for _, key := range tasks.Keys() {
		values[key] = &empty
	}
	values["application_id"] = &anyID
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
func (o *importOptions) execute(cmd *cobra.Command, e *engine, job *bulk.Import) (err error) {
	bar := newFileProgress(os.Stderr, onTerminal(), job.Input)
	defer bar.stop()
	rejects := &rejectPrinter{w: bar}
	job.Client, job.OnProgress, job.OnReject = e.producer(warnOnceFull(bar)), bar.report, rejects.print
	job.OnRounded = func(row input.Row) { printInspection(bar, input.Inspection{Rounded: 1, FirstRounded: row}) }
	if o.rejects != "" {
		warnIfReadable(cmd.ErrOrStderr(), o.rejects)
		if job.Rejects, err = output.CreateRejects(o.rejects, job.Input, o.spreadsheet); err != nil {
			return err
		}
	}
	var result bulk.DryRun
	if o.dryRun {
		result, err = job.DryRun(cmd.Context())
	} else {
		result.Counts, err = job.Run(cmd.Context())
	}
	bar.stop()
	if err != nil {
		return importError(cmd.Context(), err, describeCounts(result.Counts))
	}
	rejects.printRest(cmd.ErrOrStderr())
	return o.report(cmd, e, result)
}

// report prints the counts of an import, and the forecast of a dry run.
func (o *importOptions) report(cmd *cobra.Command, e *engine, result bulk.DryRun) error {
	what := ""
	if o.dryRun {
		what = ", dry run"
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "kyclink: batch %s%s: %s\n", o.batch, what, describeCounts(result.Counts))
	if o.dryRun {
		if err := forecastImport(cmd, e.operator(), result); err != nil {
			return err
		}
	}
	if o.asJSON {
		if err := printJSON(cmd.OutOrStdout(), result.Counts); err != nil {
			return err
		}
	}
	if result.Counts.Rejected() > 0 {
		return &codeError{code: exitNotCreated}
	}
	return nil
}
