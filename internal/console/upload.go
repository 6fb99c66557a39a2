package console

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/bulk"
	"github.com/kyclink/kyclink/internal/column"
	"github.com/kyclink/kyclink/internal/input"
	"github.com/kyclink/kyclink/internal/legible"
	"github.com/kyclink/kyclink/internal/output"
	"github.com/kyclink/kyclink/internal/transfer"
	"github.com/kyclink/kyclink/tasks"
)

// upload is a file that a browser has sent completely, with the form in which it came. The
// file is in a temporary directory for the time of one HTTP request only: any process can
// handle the next one, because the browser sends the file again.
type upload struct {
	name   string // of the file, as the browser calls it
	dir    string
	path   string
	size   int64
	digest string     // of its content
	form   url.Values // only fields with a value
}

// columnField is the field of the form that names the column of a key. If there is one, these
// fields name all columns that are used.
const columnField = "column."

// settingFields returns the fields of the form that decide what an import does.
func settingFields() []string {
	fields := append([]string{"batch", "encoding", "sheet", "ignore_unknown"}, bulk.BatchKeys()...)
	for _, key := range tasks.Keys() {
		fields = append(fields, columnField+key)
	}
	return fields
}

// receive reads the form, whose last field must be the file. The caller must call
// [upload.remove].
func (c *Console) receive(ctx context.Context, v *visit) (*upload, error) {
	control := http.NewResponseController(v.w)
	// Otherwise, the deadline of the last read would end the context while the file is processed.
	defer func() { _ = control.SetReadDeadline(time.Time{}) }() // test recorders have no deadline
	body := transfer.NewReader(ctx, http.MaxBytesReader(v.w, v.r.Body, c.MaxBody+maxForm), control)
	v.r.Body = struct {
		io.Reader
		io.Closer
	}{body, v.r.Body}
	u, err := c.readForm(v.r)
	if failed := body.Err(); failed != nil && u == nil {
		err = c.bodyError(failed)
	}
	return u, err
}

func (c *Console) readForm(r *http.Request) (*upload, error) {
	damaged := &pageError{http.StatusBadRequest, "Request not understood", "The form is damaged or too large. Nothing was imported."}
	parts, err := r.MultipartReader()
	if err != nil {
		return nil, damaged
	}
	u, left := &upload{form: url.Values{}}, int64(maxForm)
	for {
		part, err := parts.NextPart()
		switch {
		case errors.Is(err, io.EOF):
			return nil, &pageError{http.StatusUnprocessableEntity, "No file", "Choose a file to import."}
		case err != nil:
			return nil, damaged
		case part.FormName() == "file":
			return c.store(u, part)
		}
		value, err := io.ReadAll(io.LimitReader(part, left+1))
		if left -= int64(len(part.FormName()) + len(value)); err != nil || left < 0 {
			return nil, damaged
		}
		if text := strings.TrimSpace(string(value)); text != "" && !u.form.Has(part.FormName()) {
			u.form.Set(part.FormName(), text)
		}
	}
}

// store writes the file to a temporary directory.
func (c *Console) store(u *upload, part *multipart.Part) (_ *upload, err error) {
	u.name = filepath.Base(strings.ReplaceAll(part.FileName(), `\`, "/"))
	format := input.FormatOf(u.name)
	switch {
	case part.FileName() == "":
		return nil, &pageError{http.StatusUnprocessableEntity, "No file", "Choose a file to import."}
	case input.Uncompressed(u.name) != u.name:
		return nil, &pageError{http.StatusUnsupportedMediaType, "Compressed file", "Unpack " + legible.Shorten(u.name) + " first. Nothing was imported."}
	case format == "":
		return nil, &pageError{
			http.StatusUnsupportedMediaType, "Unknown kind of file",
			"The name " + quoted(u.name) + " does not end in " + input.Suffixes + ". Nothing was imported.",
		}
	}
	if u.dir, err = temporaryDir(); err != nil {
		return nil, c.noTemporaryFile(err)
	}
	defer func() {
		if err != nil {
			u.remove()
		}
	}()
	u.path = filepath.Join(u.dir, "upload."+string(format))
	file, err := os.OpenFile(u.path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, c.noTemporaryFile(err)
	}
	hash := sha256.New()
	u.size, err = io.Copy(io.MultiWriter(file, hash), io.LimitReader(part, c.MaxBody+1))
	if err == nil && u.size > c.MaxBody {
		err = &http.MaxBytesError{Limit: c.MaxBody}
	}
	u.digest = hex.EncodeToString(hash.Sum(nil))
	if err = errors.Join(err, file.Close()); err != nil {
		return nil, c.bodyError(err)
	}
	return u, nil
}

const temporaryPrefix = "kyclink-console-"

// temporaryDir makes a directory for the files of one HTTP request. It first removes those of
// processes that were killed.
func temporaryDir() (string, error) {
	left, err := filepath.Glob(filepath.Join(os.TempDir(), temporaryPrefix+"*"))
	if err != nil {
		return "", err
	}
	for _, dir := range left {
		if info, err := os.Stat(dir); err == nil && time.Since(info.ModTime()) > 2*transfer.Timeout {
			_ = os.RemoveAll(dir) // another process may remove it as well
		}
	}
	return os.MkdirTemp("", temporaryPrefix)
}

// remove deletes the file. It can be called repeatedly.
func (u *upload) remove() { _ = os.RemoveAll(u.dir) }

// noTemporaryFile explains that the server has no place for the file.
func (c *Console) noTemporaryFile(err error) error {
	c.Log.Error("temporary file cannot be written; set TMPDIR to a writable directory with space", zap.Error(err))
	return &pageError{http.StatusInsufficientStorage, "No space for the file", "The server cannot store the file during the transfer: its directory for temporary files is missing, read-only or full. Nothing was changed."}
}

// fileError returns the error of a step that writes a temporary file: if it could not write
// it, that is explained.
func (c *Console) fileError(err error) error {
	if _, unwritten := errors.AsType[*output.Error](err); unwritten {
		return c.noTemporaryFile(err)
	}
	return err
}

// bodyError explains why a file was not received completely.
func (c *Console) bodyError(err error) error {
	if _, ok := errors.AsType[*pageError](err); ok {
		return err
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return &pageError{
			http.StatusRequestEntityTooLarge, "File too large",
			"A file may have at most " + humanize.IBytes(uint64(c.MaxBody)) + " (KYCLINK_MAX_BODY). Divide it, or import it with kyclink import. Nothing was imported.", //nolint:gosec // it is positive
		}
	}
	if _, ok := errors.AsType[*os.PathError](err); ok {
		return c.noTemporaryFile(err)
	}
	text := "The file did not arrive completely. Nothing was imported. Try again."
	if errors.Is(err, os.ErrDeadlineExceeded) {
		text = "The upload stalled. Nothing was imported. Try again."
	}
	return &pageError{http.StatusBadRequest, "Upload incomplete", text}
}

// batch returns the batch of the form. Its name is that of the file if the form has none.
func (u *upload) batch() (tasks.Batch, error) {
	name := strings.TrimSuffix(u.name, filepath.Ext(u.name))
	return bulk.ParseBatch(cmp.Or(u.form.Get("batch"), name), u.form.Get)
}

// open opens the file as the form says.
func (u *upload) open() (*input.File, error) {
	o := input.Options{
		Format: input.FormatOf(u.name), Encoding: u.form.Get("encoding"), Sheet: u.form.Get("sheet"), Uploaded: true,
		Columns: map[string]string{},
		// Columns that are not used are shown before the import; keys of NDJSON are not.
		Strict: input.FormatOf(u.name) == input.NDJSON && !u.form.Has("ignore_unknown"),
	}
	keys := map[string]string{} // by column
	for _, key := range tasks.Keys() {
		name := u.form.Get(columnField + key)
		if name == "" {
			continue
		}
		if other, twice := keys[name]; twice {
			problem := fmt.Sprintf("the column %q is chosen for %s and for %s; choose another one", legible.Shorten(name), other, key)
			return nil, &input.Error{Problem: problem, Columns: u.header(o)}
		}
		keys[name], o.Columns[key], o.Exact = key, name, true
	}
	if err := o.Validate(); err != nil {
		return nil, &input.Error{Err: err}
	}
	return input.Open(u.path, o)
}

// header returns the names of the file's columns.
func (u *upload) header(o input.Options) []string {
	o.Columns, o.Exact = nil, true // without a column of the ID, the error has the names
	in, err := input.Open(u.path, o)
	if err == nil {
		_ = in.Close() // it was read only
	}
	if e, ok := errors.AsType[*input.Error](err); ok {
		return e.Columns
	}
	return nil
}

// settle fills in what the form left to the program, so that the same form again has the same
// effect.
func (u *upload) settle(batch tasks.Batch, in *input.File) {
	u.form.Set("batch", batch.Name)
	if in.Format() == input.NDJSON {
		return
	}
	used, _ := in.Mapping()
	for _, c := range used {
		u.form.Set(columnField+c.Key, strings.TrimSpace(c.Name))
	}
}

// guess proposes the columns whose names are keys, or nearly, if the form chooses none.
func (u *upload) guess(columns []string) {
	if slices.ContainsFunc(tasks.Keys(), func(key string) bool { return u.form.Has(columnField + key) }) {
		return
	}
	for _, name := range columns {
		if key := cmp.Or(column.Key(name), column.NearKey(name)); key != "" && !u.form.Has(columnField+key) {
			u.form.Set(columnField+key, strings.TrimSpace(name))
		}
	}
}

// settings is a digest of the fields that decide what an import does.
func (u *upload) settings() string {
	hash := sha256.New()
	for _, name := range slices.Sorted(slices.Values(settingFields())) {
		_, _ = fmt.Fprintf(hash, "%q", []string{name, u.form.Get(name)})
	}
	return hex.EncodeToString(hash.Sum(nil))
}
