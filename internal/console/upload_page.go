package console

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/kyclink/kyclink/internal/bulk"
	"github.com/kyclink/kyclink/internal/input"
	"github.com/kyclink/kyclink/internal/legible"
	"github.com/kyclink/kyclink/tasks"
)

// uploadData is the page that imports a batch: the form, and the result of the check of a file
// or of its import.
type uploadData struct {
	Form    func(name string) string // the value of a field
	Limit   int64                    // the largest file, in bytes
	Notice  string                   // why the file was only checked
	Problem string                   // why the file cannot be imported
	// Columns are the choices for the column of each key; nil if there is no header.
	Columns []columnChoice
	File    *fileData
	Checked *checkedData
	Result  *importedData
}

// fileData is the file that was sent.
type fileData struct {
	Name      string
	Size      int64
	IsNDJSON  bool
	Dialect   string
	Warnings  []string
	Others    []string // columns that are not imported
	MoreThan  int      // further such columns
	Digest    string
	Settings  string
	ImportsTo string // the batch
}

// columnChoice is the choice of a column for a key.
type columnChoice struct {
	Key, Field string
	Chosen     string
	Columns    []string
}

func (c *Console) uploadPage(_ context.Context, v *visit) error {
	query := v.r.URL.Query()
	form := func(name string) string {
		if name == "batch" {
			return query.Get("batch")
		}
		return ""
	}
	return c.show(v, http.StatusOK, "upload", "Import a batch", uploadData{Form: form, Limit: c.MaxBody})
}

// field is a field of the form.
type field struct{ Name, Value string }

// Settings returns the fields that decide what an import does.
func (d uploadData) Settings() (fields []field) {
	for _, name := range settingFields() {
		if value := d.Form(name); value != "" {
			fields = append(fields, field{name, value})
		}
	}
	return fields
}

// HasDefaults reports whether the form has defaults for rows.
func (d uploadData) HasDefaults() bool {
	return slices.ContainsFunc(bulk.BatchKeys(), func(key string) bool { return d.Form(key) != "" })
}

// HasReading reports whether the form says how the file is read.
func (d uploadData) HasReading() bool {
	return slices.ContainsFunc([]string{"encoding", "sheet", "ignore_unknown"}, func(name string) bool { return d.Form(name) != "" })
}

// Encodings are those that files often have, besides UTF-8 and UTF-16 with a byte order mark.
func (uploadData) Encodings() []string {
	return []string{"windows-1252", "windows-1250", "windows-1251", "iso-8859-2", "macintosh", "ibm850", "shift_jis", "gbk", "utf-16le", "utf-16be"}
}

// summary describes the rows of a file by what happens to them.
func summary(c bulk.Counts, accepted string) (list []listData) {
	for _, part := range []listData{
		{Name: accepted, Number: c.Accepted},
		{Name: "accepted by this batch before", Number: c.Again},
		{Name: "repeat the ID of another row", Number: c.Repeated},
		{Name: "joined: another batch or a signup was accepted first", Number: c.Joined},
		{Name: "skipped, because they have a link in the file", Number: c.Linked},
		{Name: "rejected: invalid", Number: c.Invalid},
		{Name: "rejected: in conflict with what was accepted before", Number: c.Conflicts},
		{Name: "rejected: their generation is not available", Number: c.Refused},
	} {
		if part.Number > 0 {
			list = append(list, part)
		}
	}
	return list
}

// Summary describes the rows by what an import would do with them.
func (d checkedData) Summary() []listData { return summary(d.Counts, "new requests") }

// Summary describes the rows by what the import did with them.
func (d importedData) Summary() []listData { return summary(d.Counts, "accepted") }

// describe returns what the page shows of a file.
func (c *Console) describe(u *upload, job *bulk.Import) *fileData {
	_, others := job.Input.Mapping()
	f := &fileData{
		Name: legible.Shorten(u.name), Size: u.size, IsNDJSON: job.Input.Format() == input.NDJSON, Dialect: job.Input.Dialect(), Warnings: job.Input.Warnings(),
		Others: others, Digest: u.digest, Settings: u.settings(), ImportsTo: job.Batch.Name,
	}
	if len(others) > mostColumns {
		f.Others, f.MoreThan = others[:mostColumns], len(others)-mostColumns
	}
	for i, name := range f.Others {
		f.Others[i] = legible.Shorten(name)
	}
	return f
}

func columnsOf(names []string) (columns []input.Column) {
	for _, name := range names {
		columns = append(columns, input.Column{Name: name})
	}
	return columns
}

// columnChoices returns the choices for each key. A file may have more columns than a page
// can offer.
func columnChoices(columns []input.Column, chosen func(string) string) (choices []columnChoice) {
	if len(columns) == 0 {
		return nil
	}
	var names []string
	left := mostColumnBytes
	for _, column := range columns {
		name := strings.TrimSpace(column.Name)
		if name != "" && len(name) <= left && !slices.Contains(names, name) && len(names) < mostColumns {
			names = append(names, name)
			left -= len(name)
		}
	}
	for _, key := range tasks.Keys() {
		choice := columnChoice{Key: key, Field: columnField + key, Chosen: chosen(columnField + key), Columns: names}
		if choice.Chosen != "" && !slices.Contains(names, choice.Chosen) {
			choice.Columns = append(slices.Clip(names), choice.Chosen)
		}
		choices = append(choices, choice)
	}
	return choices
}
