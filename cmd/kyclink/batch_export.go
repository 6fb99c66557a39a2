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
	"github.com/kyclink/kyclink/internal/ledger"
)

func newBatchExport() *cobra.Command {
	var out, format string
	var expired bool
	cmd := &cobra.Command{
		Use:   "export NAME",
		Short: "write a batch's rows with their links",
		Long: `export writes the rows of a batch in the input's order, with the request's keys and
then what came of each: status, link_id, url, expires_at, reason, attempts and
possible_duplicates. It may be run at any time; what is not done yet shows where it
stands. A row that joined, because it had been asked for elsewhere before, shows what
its owner made of it. A row whose request is not kept any more is "erased", without
its application id. Rows that the import rejected are in the file that it wrote.

OUT is csv, xlsx or ndjson, compressed where it ends in .gz or .zst, and is there only when
it is whole. Without OUT the rows go to standard output. Cells are written as they
were read: who opens them in a spreadsheet has to trust the input.`,
		Example: `  kyclink batch export spring -o spring-links.csv
  kyclink batch export spring -o spring-links.ndjson.zst
  kyclink batch export spring --expired --format ndjson | wc -l`,
		Args: one("a batch's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			f := bulk.Format(format)
			if err := exportTarget(out, f); err != nil {
				return usageError(cmd, err)
			}
			return withShared(cmd, func(e *engine) error { return exportBatch(cmd, e, args[0], out, f, expired) })
		},
	}
	cmd.Flags().StringVarP(&out, "output", "o", "", "write to this file, and not to standard output")
	cmd.Flags().StringVar(&format, "format", "", "csv, xlsx or ndjson (default: as OUT's suffix says; csv on standard output)")
	cmd.Flags().BoolVar(&expired, "expired", false, "only rows whose link has expired")
	return cmd
}

// exportTarget checks where an export goes to, and in which format.
func exportTarget(out string, format bulk.Format) error {
	known := slices.Contains([]bulk.Format{"", bulk.CSV, bulk.XLSX, bulk.NDJSON}, format)
	switch {
	case !known:
		return fmt.Errorf("--format is %q; use csv, xlsx or ndjson", format)
	case out == "" && format == bulk.XLSX:
		return errors.New("--format xlsx: a workbook is written to a file only: -o OUT")
	case out != "":
		return bulk.CheckSheet(out, format)
	}
	return nil
}

func exportBatch(cmd *cobra.Command, e *engine, name, out string, format bulk.Format, expired bool) (err error) {
	ctx := cmd.Context()
	book := ledger.New(e.rdb, ledger.Config{Account: e.cfg.Account})
	number, err := batchNumber(ctx, book, name)
	if err != nil {
		return err
	}
	now, err := book.Keys().Clock(ctx, e.rdb).Time()
	if err != nil {
		return err
	}
	export := bulk.Export{Rows: book, Batch: number, Format: format, Expired: expired, Now: now}
	var summary bulk.Summary
	if out == "" {
		if format == "" {
			export.Format = bulk.CSV
		}
		w := bufio.NewWriterSize(cmd.OutOrStdout(), 1<<16)
		summary, err = export.Write(ctx, w)
		err = cmp.Or(err, w.Flush())
	} else {
		sheet, open := bulk.OpenSheet(out, format)
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
		return stopped(ctx, err)
	}
	tellExported(cmd.ErrOrStderr(), summary)
	return nil
}

// tellExported says how many rows have which status.
func tellExported(w io.Writer, summary bulk.Summary) {
	total, parts := 0, []string(nil)
	for status, n := range summary {
		total += n
		parts = append(parts, fmt.Sprintf("%d %s", n, status))
	}
	slices.Sort(parts)
	said := "kyclink: " + number(total, "row")
	if total > 0 {
		said += ": " + strings.Join(parts, ", ")
	}
	fmt.Fprintln(w, said)
}
