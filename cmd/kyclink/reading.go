package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kyclink/kyclink/internal/input"
	"github.com/kyclink/kyclink/internal/legible"
	"github.com/kyclink/kyclink/tasks"
)

// readingFlags are the flags for how a file of requests is read.
type readingFlags struct {
	delimiter, encoding, sheet string
	columns, carry             []string
}

func (f *readingFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.delimiter, "delimiter", "", "`CHARACTER` between the cells of a CSV file, such as ; or tab (default: detected from the header)")
	cmd.Flags().StringVar(&f.encoding, "encoding", "", "`ENCODING` of a text file, such as windows-1252 (default: UTF-8, or UTF-16 with a byte order mark)")
	cmd.Flags().StringVar(&f.sheet, "sheet", "", "`NAME` of the sheet of an .xlsx file (default: the first sheet)")
	cmd.Flags().StringArrayVar(&f.columns, "map", nil, "take the request's KEY from COLUMN of FILE, as `KEY=COLUMN`; may be repeated")
	cmd.Flags().StringArrayVar(&f.carry, "carry", nil, "carry over `COLUMN` as data, although its name is or resembles a key of a request; may be repeated")
}

// reading checks the flags, and returns the options.
func (f *readingFlags) reading(cmd *cobra.Command) (r input.Options, err error) {
	r = input.Options{Encoding: f.encoding, Sheet: f.sheet, Carry: f.carry}
	if r.Delimiter, err = delimiter(f.delimiter); err != nil {
		return r, usageError(cmd, err)
	}
	if r.Columns, err = mapped(f.columns); err != nil {
		return r, usageError(cmd, err)
	}
	if err := r.Validate(); err != nil {
		return r, usageError(cmd, fmt.Errorf("--encoding: %w", err))
	}
	return r, nil
}

// delimiter parses a character that can separate cells; 0 if none is given.
func delimiter(text string) (byte, error) {
	switch {
	case text == "":
		return 0, nil
	case text == "tab" || text == `\t`:
		return '\t', nil
	case len(text) != 1 || text[0] < ' ' && text[0] != '\t' || text[0] > '~' || text[0] == '"':
		return 0, fmt.Errorf("--delimiter is %q; use one character, such as ; or |, or tab", text)
	}
	return text[0], nil
}

// mapped parses KEY=COLUMN.
func mapped(pairs []string) (map[string]string, error) {
	columns, used := make(map[string]string), make(map[string]bool)
	for _, pair := range pairs {
		key, column, ok := strings.Cut(pair, "=")
		switch {
		case !ok || column == "":
			return nil, fmt.Errorf("--map is %q; write KEY=COLUMN, such as application_id=CustomerRef", pair)
		case !slices.Contains(tasks.Keys(), key):
			return nil, fmt.Errorf("--map %s: a request has no key %q; its keys are %s", pair, key, strings.Join(tasks.Keys(), ", "))
		case columns[key] != "":
			return nil, fmt.Errorf("--map: %s is mapped twice", key)
		case used[column]:
			return nil, fmt.Errorf("--map: the column %q is mapped twice", column)
		}
		columns[key], used[column] = column, true
	}
	return columns, nil
}

// shownColumns is how many unused columns are listed.
const shownColumns = 30

// printMapping prints how a file is read: the columns that are used as keys, and what
// happens to the others.
func printMapping(w io.Writer, in *input.File, othersAre string) {
	var parts []string
	if style := in.Dialect(); style != "" {
		parts = append(parts, style)
	}
	used, others := in.Mapping()
	var names []string
	for _, u := range used {
		if u.Name == u.Key {
			names = append(names, u.Key)
		} else {
			names = append(names, fmt.Sprintf("%s (%q)", u.Key, u.Name))
		}
	}
	if len(names) > 0 {
		parts = append(parts, "columns used: "+strings.Join(names, ", "))
	}
	names = nil
	for _, name := range others[:min(len(others), shownColumns)] {
		names = append(names, strconv.Quote(legible.Shorten(name)))
	}
	if more := len(others) - shownColumns; more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	if len(names) > 0 {
		parts = append(parts, othersAre+": "+strings.Join(names, ", "))
	}
	if len(parts) > 0 {
		fmt.Fprintf(w, "kyclink: %s\n", strings.Join(parts, "; "))
	}
	for _, warning := range in.Warnings() {
		fmt.Fprintf(w, "kyclink: WARNING: %s\n", warning)
	}
}

// roundedHint explains an ID such as 4.91702E+12.
const roundedHint = "looks like a number that a spreadsheet has rounded, so that several people may share it; format the column as text in the spreadsheet and enter the IDs again"

// printInspection warns of rounded IDs.
func printInspection(w io.Writer, found input.Inspection) {
	if found.Rounded == 0 {
		return
	}
	more := ""
	if found.Rounded > 1 {
		more = fmt.Sprintf(" (and %s like it)", number(found.Rounded-1, "more row"))
	}
	first := found.FirstRounded
	fmt.Fprintf(w, "kyclink: WARNING: row %d at line %d%s: the ID %s %s\n", first.Number, first.Line, more, first.Request.ApplicationID, roundedHint)
}

// warnIfReadable warns if a file for personal data already exists, and other users may
// read or write it: it keeps its mode.
func warnIfReadable(w io.Writer, path string) {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o077 == 0 {
		return
	}
	fmt.Fprintf(w, "kyclink: WARNING: %s already exists with mode %04o, so that other users may access it; remove it first, or run chmod 600 %s\n", path, info.Mode().Perm(), path)
}
