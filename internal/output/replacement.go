package output

import (
	"cmp"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/kyclink/kyclink/internal/column"
	"github.com/kyclink/kyclink/internal/disk"
	"github.com/kyclink/kyclink/internal/workbook"
)

// replacement is a temporary file that replaces the file at path when it is complete.
// Only its owner can read it, as it holds links.
type replacement struct {
	path    string
	file    *os.File         // nil after commit or discard
	book    *workbook.Writer // nil unless the file is a workbook
	scratch string           // a directory for the workbook's temporary files
}

// create creates the temporary file. It first removes those that killed processes
// left: their names occur only for the same path.
func (r *replacement) create() (err error) {
	dir, pattern := r.names()
	left, err := fs.Glob(os.DirFS(dir), pattern)
	for _, name := range left {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, name)))
	}
	if err == nil {
		r.file, err = os.CreateTemp(dir, pattern)
	}
	return err
}

// names returns the directory and the name pattern of the temporary files.
func (r *replacement) names() (dir, pattern string) {
	dir, base := filepath.Split(r.path)
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(base)) // always nil
	return cmp.Or(dir, "."), fmt.Sprintf(".kyclink-%016x-*", hash.Sum64())
}

// createWorkbook begins a workbook on w. Its temporary files are beside path, so that
// the next process removes them if this one is killed.
func (r *replacement) createWorkbook(w io.Writer) (err error) {
	if r.scratch, err = os.MkdirTemp(r.names()); err != nil {
		return err
	}
	r.book, err = workbook.NewWriter(w, r.scratch, column.IsNumber)
	return err
}

// cleanUp removes the workbook's temporary files.
func (r *replacement) cleanUp() (err error) {
	if r.book != nil {
		err = r.book.Discard()
	}
	if r.scratch != "" {
		err = errors.Join(err, os.RemoveAll(r.scratch))
	}
	r.book, r.scratch = nil, ""
	return err
}

// commit replaces the file at path: then it is complete and on the disk. If it fails,
// the file is as before or complete, never in between.
func (r *replacement) commit() error {
	if err := errors.Join(r.cleanUp(), r.file.Sync()); err != nil {
		return errors.Join(r.failed(err), r.discard())
	}
	name := r.file.Name()
	err := r.file.Close()
	r.file = nil
	if err == nil {
		err = os.Rename(name, r.path)
	}
	if err != nil {
		return errors.Join(r.failed(err), os.Remove(name))
	}
	if err := disk.SyncDirOf(r.path); err != nil {
		return r.failed(err)
	}
	return nil
}

// discard leaves the file at path as it was. After commit it does nothing.
func (r *replacement) discard() error {
	if r.file == nil {
		return nil
	}
	err := errors.Join(r.cleanUp(), r.file.Close(), os.Remove(r.file.Name()))
	r.file = nil
	return err
}

func (r *replacement) failed(err error) error {
	return newError(r.path, "; check its disk and directory, then run again", err)
}
