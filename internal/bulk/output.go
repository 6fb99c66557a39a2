package bulk

import (
	"bufio"
	"cmp"
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
	if problem := UnknownSuffix(out); problem != "" {
		return refuse(problem, nil)
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
		for i := range in.columns {
			name := in.columnName(i)
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
	return in.kind
}

// UnknownSuffix says why a file of rows cannot be written under a name that promises
// another format; empty where it can.
func UnknownSuffix(out string) string {
	switch ext := strings.ToLower(filepath.Ext(out)); {
	case ext == "" || formatOf(out) != "":
		return ""
	case ext == ".gz" || ext == ".zst":
		return "cannot be written compressed; name a file that ends in " + formats
	default:
		return "ends in " + ext + ", which is no format that can be written; name a file that ends in " + formats
	}
}

// Standard says that a path stands for a stream that this process was started with,
// and not for a file.
func Standard(path string) bool {
	path = filepath.Clean(path)
	for _, dir := range []string{"/dev/fd/", "/proc/self/fd/"} {
		if strings.HasPrefix(path, dir) {
			return true
		}
	}
	return path == "-" || path == "/dev/stdout" || path == "/dev/stderr" || path == "/dev/stdin"
}

// Target is the file that out stands for: where out is a symbolic link, what it
// leads to, which need not be there yet. OUT is replaced when it is written, and
// the link is to stay. The error is an [*OutputError].
func Target(out string) (string, error) {
	path := out
	for range maxLinks {
		link, err := os.Readlink(path)
		if err != nil { // it is no link; what else may be wrong with it is for Check
			return path, nil //nolint:nilerr // what is no link is its own target
		}
		dir, _ := filepath.Split(path)
		if filepath.IsAbs(link) {
			dir = ""
		}
		// Not cleaned before: a ".." after a link to a directory means that one's parent.
		dir, name := filepath.Split(dir + link)
		if dir, err = filepath.EvalSymlinks(cmp.Or(dir, ".")); err != nil {
			return "", &OutputError{Path: out, Problem: "is a link into a directory that cannot be used; make it first", Err: cause(err)}
		}
		path = filepath.Join(dir, name)
	}
	return "", &OutputError{Path: out, Problem: "is a link that leads back to itself; name another"}
}

// maxLinks is how many links to links are followed.
const maxLinks = 40

// Output is OUT while it is written: a file beside it, which takes its place
// when it is whole. It is readable for its owner only, as it holds links. It is
// for one goroutine at a time.
type Output struct {
	draft
	buf *bufio.Writer
	enc encoder
}

// Create begins OUT for the rows of in. The caller holds OUT's journal, so that
// nobody else writes it, and ends with [Output.Commit] or [Output.Discard]. With
// spreadsheet no cell of a CSV is taken for a formula.
func Create(out string, in *Input, spreadsheet bool) (*Output, error) {
	if err := Check(out, in); err != nil {
		return nil, err
	}
	o := &Output{draft: draft{path: out}}
	err := o.open()
	if err != nil {
		return nil, o.failed(err)
	}
	o.buf = bufio.NewWriterSize(o.file, 1<<16)
	l := in.layout(outFormat(out, in), results[:])
	l.spreadsheet = spreadsheet
	if l.format != XLSX {
		o.enc, err = newEncoder(o.buf, in, l)
	} else if err = o.workbook(o.buf); err == nil {
		o.enc, err = newBookEncoder(o.book, in, l)
	}
	if err != nil {
		return nil, errors.Join(o.failed(err), o.Discard())
	}
	return o, nil
}

// Write adds a row of the input with what came of it: its link, or a
// [Rejection].
func (o *Output) Write(row Row, l tasks.Link) error {
	if err := o.enc.row(row, resultTexts(l)); err != nil {
		return o.failed(err)
	}
	return nil
}

// Commit makes OUT what was written: after it, OUT is whole and on the disk.
// When it fails, OUT is what it was before, or whole; never half there.
func (o *Output) Commit() error {
	if err := errors.Join(o.enc.flush(), o.buf.Flush()); err != nil {
		return errors.Join(o.failed(err), o.Discard())
	}
	return o.commit()
}

// Discard gives up what was written and leaves OUT alone. After
// [Output.Commit] it does nothing, so that it may be deferred.
func (o *Output) Discard() error { return o.discard() }

// syncDir makes the name of a file last that was created or renamed.
func syncDir(path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
