package bulk

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/kyclink/kyclink/tasks"
)

// Check says before the work whether [Create] would be able to write out for
// in; the error is an [*OutputError].
func Check(out string, in *Input) error {
	refuse := func(problem string, err error) error {
		return &OutputError{Path: out, Problem: problem, Err: cause(err)}
	}
	if s := strings.ToLower(filepath.Ext(out)); s == ".gz" || s == ".zst" {
		return refuse("cannot be written compressed; name a file that ends in "+formats, nil)
	}
	if dir, err := os.Stat(filepath.Dir(out)); err != nil || !dir.IsDir() {
		return refuse("lies in a directory that cannot be used; make it first", err)
	}
	switch info, err := os.Stat(out); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return refuse("cannot be looked at; check its permissions", err)
	case !info.Mode().IsRegular():
		return refuse("is no regular file; name another", nil)
	case os.SameFile(info, in.stat):
		return refuse("is the input file; name another", nil)
	}
	if outFormat(out, in) == NDJSON {
		seen := make(map[string]bool)
		for _, name := range in.columns {
			if seen[name] {
				return refuse(fmt.Sprintf("cannot hold two members of the name %q; rename a column of the input, or write a .csv", name), nil)
			}
			seen[name] = true
		}
	}
	return nil
}

// outFormat is the input's, unless out's suffix says otherwise.
func outFormat(out string, in *Input) Format {
	if f := formatOf(out); f != "" {
		return f
	}
	return in.format
}

// Output is OUT while it is written: a file beside it, which takes its place
// when it is whole. It is readable for its owner only, as it holds links. It is
// for one goroutine at a time.
type Output struct {
	path string
	file *os.File // OUT.tmp; nil when the output has ended
	buf  *bufio.Writer
	enc  encoder
}

// encoder writes rows in one format.
type encoder interface {
	row(row Row, l tasks.Link) error
	flush() error
}

// Create begins OUT for the rows of in. The caller holds OUT's journal, so that
// nobody else writes it, and ends with [Output.Commit] or [Output.Discard].
func Create(out string, in *Input) (*Output, error) {
	if err := Check(out, in); err != nil {
		return nil, err
	}
	o := &Output{path: out}
	// What a killed run left is removed, not opened: it might be a link to
	// somewhere else, and its mode somebody else's.
	err := os.Remove(o.temporary())
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		o.file, err = os.OpenFile(o.temporary(), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	}
	if err != nil {
		return nil, o.failed(err)
	}
	o.buf = bufio.NewWriterSize(o.file, 1<<16)
	if outFormat(out, in) == NDJSON {
		o.enc = newNDJSONEncoder(o.buf, in)
	} else if o.enc, err = newCSVEncoder(o.buf, in); err != nil {
		return nil, errors.Join(o.failed(err), o.Discard())
	}
	return o, nil
}

func (o *Output) temporary() string { return o.path + ".tmp" }

func (o *Output) failed(err error) error {
	return &OutputError{Path: o.path, Problem: "cannot be written; check its disk and directory, then run again", Err: cause(err)}
}

// Write adds a row of the input with what came of it: its link, or a
// [Rejection].
func (o *Output) Write(row Row, l tasks.Link) error {
	if err := o.enc.row(row, l); err != nil {
		return o.failed(err)
	}
	return nil
}

// Commit makes OUT what was written: after it, OUT is whole and on the disk.
// When it fails, OUT is what it was before, or whole; never half there.
func (o *Output) Commit() error {
	err := errors.Join(o.enc.flush(), o.buf.Flush())
	if err == nil {
		err = o.file.Sync()
	}
	if err != nil {
		return errors.Join(o.failed(err), o.Discard())
	}
	err = o.file.Close()
	o.file = nil
	if err == nil {
		err = os.Rename(o.temporary(), o.path)
	}
	if err != nil {
		return errors.Join(o.failed(err), os.Remove(o.temporary()))
	}
	if err := syncDir(o.path); err != nil {
		return o.failed(err)
	}
	return nil
}

// Discard gives up what was written and leaves OUT alone. After
// [Output.Commit] it does nothing, so that it may be deferred.
func (o *Output) Discard() error {
	if o.file == nil {
		return nil
	}
	err := errors.Join(o.file.Close(), os.Remove(o.temporary()))
	o.file = nil
	return err
}

// syncDir makes the name of a file last that was created or renamed.
func syncDir(path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
