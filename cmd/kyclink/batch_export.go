package main

import (
	"bufio"
	"cmp"
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

const spreadsheetHelp = "put ' before cells that a spreadsheet may evaluate as a formula; for files that people open in one"

type batchExportOptions struct {
	readingFlags
	out, format, with    string
	expired, spreadsheet bool
}

func newBatchExport() *cobra.Command {
	var o batchExportOptions
	cmd := &cobra.Command{
		Use:   "export NAME",
		Short: "Write the rows of a batch with their links",
		Long: `Write the rows of a batch in the input's order, with the request's keys and the columns
status, link_id, url, expires_at, reason, attempts and possible_duplicates. It may be
run at any time; a request that has not ended shows its present status. A joined row
shows the link of the request that was accepted first. A row whose request is no longer
stored has the status "erased" and no application id. Rows that the import rejected are
not in the batch, but in the file of its --rejects.

With --with FILE the rows are those of the imported file, with all of its columns: names
and other data are never sent to Redis. A row is found by its number and its id; a
rejected row shows the reason.

OUT is csv, xlsx or ndjson, compressed if it ends in .gz or .zst; it appears when it is
complete. Without OUT, or with -o -, the rows go to standard output. With FILE the format
is FILE's, unless OUT's suffix names another.

Cells are written as they were read. A spreadsheet that opens the file may evaluate a
cell that begins with =, +, -, @ or a tab as a formula, and anybody who can sign up may
have written it: use --spreadsheet for files that people open in a spreadsheet, and not
for files that programs read.`,
		Example: `  kyclink batch export spring -o spring-links.csv
  kyclink batch export spring --with people.csv --spreadsheet -o people-with-links.csv
  kyclink batch export spring -o spring-links.ndjson.zst
  kyclink batch export spring --expired --format ndjson | wc -l`,
		Args: one("a batch's name"),
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args[0]) },
	}
	cmd.Flags().StringVarP(&o.out, "output", "o", "", "write to this file instead of standard output")
	cmd.Flags().StringVar(&o.format, "format", "", "csv, xlsx or ndjson (default: by OUT's suffix; csv on standard output)")
	cmd.Flags().BoolVar(&o.expired, "expired", false, "only rows whose link has expired")
	cmd.Flags().BoolVar(&o.spreadsheet, "spreadsheet", false, spreadsheetHelp)
	cmd.Flags().StringVar(&o.with, "with", "", "the imported file, to write its rows and columns")
	o.add(cmd)
	return cmd
}

// exportTarget checks the file and the format of an export.
func exportTarget(out string, format input.Format) error {
	known := slices.Contains([]input.Format{"", input.CSV, input.XLSX, input.NDJSON}, format)
	switch {
	case !known:
		return fmt.Errorf("--format is %q; use csv, xlsx or ndjson", format)
	case out == "" && format == input.XLSX:
		return errors.New("--format xlsx: a workbook can only be written to a file; name one with -o OUT")
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
	if err := exportTarget(o.out, input.Format(o.format)); err != nil && o.with == "" {
		return usageError(cmd, err)
	}
	options, err := o.reading(cmd)
	if err != nil {
		return err
	}
	return withShared(cmd, func(e *engine) error {
		book := storage.Of(e.rdb, e.cfg.Account)
		number, err := e.operator().BatchNumber(cmd.Context(), name)
		if err != nil {
			return err
		}
		if o.with != "" {
			return stopped(cmd.Context(), o.merge(cmd, e, book, options, number, name))
		}
		return stopped(cmd.Context(), o.write(cmd, e, book, number))
	})
}

func (o *batchExportOptions) write(cmd *cobra.Command, e *engine, book *storage.Stores, number int) error {
	ctx := cmd.Context()
	now, err := book.Keys.Clock(ctx, e.rdb).Time()
	if err != nil {
		return err
	}
	export := bulk.Export{Ledger: book.Rows(), Batch: number, Format: input.Format(o.format), Expired: o.expired, Now: now, Spreadsheet: o.spreadsheet}
	var summary output.Counts
	if o.out == "" {
		export.Format = cmp.Or(export.Format, input.CSV)
		w := bufio.NewWriterSize(fileOutput(cmd), 1<<16)
		summary, err = export.Write(ctx, w)
		err = cmp.Or(err, w.Flush())
	} else {
		sheet, open := output.CreateFile(o.out, export.Format)
		if open != nil {
			return open
		}
		export.Format = sheet.Format
		if summary, err = export.Write(ctx, sheet); err == nil {
			err = sheet.Commit()
		} else {
			err = errors.Join(err, sheet.Discard())
		}
	}
	if err != nil {
		return err
	}
	printCounts(cmd.ErrOrStderr(), summary)
	return nil
}

// merge writes the rows of the imported file.
func (o *batchExportOptions) merge(cmd *cobra.Command, e *engine, book *storage.Stores, options input.Options, batch int, name string) error {
	in, err := input.Open(o.with, options)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	if _, err := output.Inspect(o.out, in); err != nil {
		return err
	}
	m := bulk.Merge{Input: in, Ledger: book.Rows(), Client: e.producer(nil), Batch: batch, Name: name, Expired: o.expired}
	merged, err := o.mergeInto(cmd, m)
	if err != nil {
		return err
	}
	printCounts(cmd.ErrOrStderr(), merged.Counts)
	if merged.Missing > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "kyclink: WARNING: %s of %s, the first of them row %d, %s not in batch %s; check that this is the imported file, unchanged\n",
			number(merged.Missing, "row"), o.with, merged.FirstMissing, verb(merged.Missing, "is", "are"), name)
	}
	return nil
}

func (o *batchExportOptions) mergeInto(cmd *cobra.Command, m bulk.Merge) (bulk.Merged, error) {
	ctx := cmd.Context()
	if o.out == "" {
		w, err := output.NewStream(fileOutput(cmd), m.Input, o.spreadsheet)
		if err != nil {
			return bulk.Merged{}, err
		}
		merged, err := m.Write(ctx, w.Write)
		return merged, cmp.Or(err, w.Commit())
	}
	out, err := output.Resolve(o.out)
	if err != nil {
		return bulk.Merged{}, err
	}
	w, err := output.Create(out, m.Input, o.spreadsheet)
	if err != nil {
		return bulk.Merged{}, err
	}
	merged, err := m.Write(ctx, w.Write)
	if err != nil {
		return merged, errors.Join(err, w.Discard())
	}
	return merged, w.Commit()
}

// printCounts prints how many rows have which status.
func printCounts(w io.Writer, summary output.Counts) {
	total, parts := 0, []string(nil)
	for status, n := range summary {
		total += n
		parts = append(parts, fmt.Sprintf("%d %s", n, status))
	}
	slices.Sort(parts)
	text := "kyclink: " + number(total, "row")
	if total > 0 {
		text += ": " + strings.Join(parts, ", ")
	}
	fmt.Fprintln(w, text)
}
