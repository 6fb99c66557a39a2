package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kyclink/kyclink/internal/bulk"
	"github.com/kyclink/kyclink/internal/input"
	"github.com/kyclink/kyclink/internal/output"
	"github.com/kyclink/kyclink/internal/storage"
)

const spreadsheetHelp = "prefix ' to cells that a spreadsheet may evaluate as a formula; for files that people open in a spreadsheet"

type batchExportOptions struct {
	readingFlags
	out, format, with    string
	expired, spreadsheet bool
}

func newBatchExport() *cobra.Command {
	var o batchExportOptions
	cmd := &cobra.Command{
		Use:   "export NAME",
		Short: "Export the rows of a batch with their links",
		Long: `Write the rows of a batch in the input's order, with the keys of the request and the
columns status, link_id, url, expires_at, reason, attempts and possible_duplicates. An
export is possible at any time: a request that has not ended shows its current status.

A joined row shows the link of the request that was accepted first. A row whose request
is no longer stored has the status "erased" and no application ID. Rows that the import
rejected are not in the batch, but in the import's --rejects file.

With --with FILE, write the rows of the imported file with all of its columns: names and
other data are never sent to Redis. Rows are matched by their number and ID. A rejected
row shows the reason.

OUT is csv, xlsx or ndjson, and compressed if it ends in .gz or .zst. It appears when it
is complete. Without -o, or with -o -, the rows are written to standard output. With
--with, the format is FILE's unless OUT's suffix names another.

Cells are written as they were read. A spreadsheet may evaluate a cell that begins with
=, +, -, @ or a tab as a formula, and anyone who can sign up may have written it. Use
--spreadsheet for files that people open in a spreadsheet, but not for files that
programs read.`,
		Example: `  kyclink batch export spring -o spring-links.csv
  kyclink batch export spring --with people.csv --spreadsheet -o people-with-links.csv
  kyclink batch export spring -o spring-links.ndjson.zst
  kyclink batch export spring --expired --format ndjson | wc -l`,
		Args: one("a batch's name"),
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args[0]) },
	}
	cmd.Flags().StringVarP(&o.out, "output", "o", "", "write to the file `OUT` (default: standard output)")
	cmd.Flags().StringVar(&o.format, "format", "", "`FORMAT` of OUT: csv, xlsx or ndjson (default: by OUT's suffix; csv on standard output)")
	cmd.Flags().BoolVar(&o.expired, "expired", false, "only rows whose link has expired")
	cmd.Flags().BoolVar(&o.spreadsheet, "spreadsheet", false, spreadsheetHelp)
	cmd.Flags().StringVar(&o.with, "with", "", "write the rows and columns of `FILE`, from which the batch was imported")
	o.add(cmd)
	return cmd
}

// checkTarget checks the file and the format of an export.
func checkTarget(out string, format input.Format) error {
	switch {
	case !slices.Contains([]input.Format{"", input.CSV, input.XLSX, input.NDJSON}, format):
		return fmt.Errorf("--format is %q; use csv, xlsx or ndjson", format)
	case out == "" && format == input.XLSX:
		return errors.New("--format xlsx: a workbook cannot be written to standard output; name a file with -o OUT")
	case out != "":
		return output.CheckFile(out, format)
	}
	return nil
}

func (o *batchExportOptions) run(cmd *cobra.Command, name string) error {
	switch {
	case o.with != "" && o.format != "":
		return usageError(cmd, errors.New("--format cannot be used with --with; the suffix of OUT names the format"))
	case output.IsStandardStream(o.out) && o.out != "-" && o.out != "/dev/stdout":
		return usageError(cmd, fmt.Errorf("-o %s: omit -o to write to standard output", o.out))
	case output.IsStandardStream(o.out):
		o.out = ""
	}
	if err := checkTarget(o.out, input.Format(o.format)); err != nil && o.with == "" {
		return usageError(cmd, err)
	}
	options, err := o.reading(cmd)
	if err != nil {
		return err
	}
	return withShared(cmd, func(e *engine) error {
		number, err := e.operator().BatchNumber(cmd.Context(), name)
		if err != nil {
			return err
		}
		rows := storage.Of(e.rdb, e.cfg.Account).Rows()
		if o.with == "" {
			return stopped(cmd.Context(), o.export(cmd, e, bulk.Export{Ledger: rows, Batch: number}))
		}
		return stopped(cmd.Context(), o.merge(cmd, bulk.Merge{Ledger: rows, Client: e.producer(nil), Batch: number, Name: name}, options))
	})
}

// export writes the rows of the batch.
func (o *batchExportOptions) export(cmd *cobra.Command, e *engine, export bulk.Export) (err error) {
	if export.Now, err = e.operator().Now(cmd.Context()); err != nil {
		return err
	}
	export.Format, export.Expired, export.Spreadsheet = input.Format(o.format), o.expired, o.spreadsheet
	counts, err := export.WriteFile(cmd.Context(), o.out, fileOutput(cmd))
	if err != nil {
		return err
	}
	printCounts(cmd.ErrOrStderr(), counts)
	return nil
}

// merge writes the rows of the imported file.
func (o *batchExportOptions) merge(cmd *cobra.Command, m bulk.Merge, options input.Options) (err error) {
	if m.Input, err = input.Open(o.with, options); err != nil {
		return err
	}
	defer func() { _ = m.Input.Close() }()
	if _, err := output.Inspect(o.out, m.Input); err != nil {
		return err
	}
	m.Expired, m.Spreadsheet = o.expired, o.spreadsheet
	merged, err := m.WriteFile(cmd.Context(), o.out, fileOutput(cmd))
	if err != nil {
		return err
	}
	printCounts(cmd.ErrOrStderr(), merged.Counts)
	if merged.Missing > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "kyclink: WARNING: %s of %s (the first is row %d) %s not in batch %s; check that this is the imported file, unchanged\n",
			number(merged.Missing, "row"), o.with, merged.FirstMissing, verb(merged.Missing, "is", "are"), m.Name)
	}
	return nil
}

// printCounts prints the number of rows with each status.
func printCounts(w io.Writer, counts output.Counts) {
	total, parts := 0, []string(nil)
	for status, n := range counts {
		total += n
		parts = append(parts, count(n)+" "+string(status))
	}
	slices.Sort(parts)
	text := "kyclink: " + number(total, "row")
	if total > 0 {
		text += ": " + strings.Join(parts, ", ")
	}
	fmt.Fprintln(w, text)
}
