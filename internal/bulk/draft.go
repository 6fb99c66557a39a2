package bulk

import (
	"cmp"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// draft is a file that takes OUT's place when it is whole. It is readable for
// its owner only, as it holds links.
type draft struct {
	path    string          // of OUT
	file    *os.File        // nil when it has taken its place, or was given up
	book    *workbookWriter // nil where no workbook is written
	scratch string          // the directory for what it needs on the way
}

// open makes the file, after it removed what killed processes left: the names
// are this program's own, and OUT's.
func (d *draft) open() (err error) {
	dir, pattern := d.names()
	left, err := fs.Glob(os.DirFS(dir), pattern)
	for _, name := range left {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, name)))
	}
	if err == nil {
		d.file, err = os.CreateTemp(dir, pattern)
	}
	return err
}

// names says where the file is made, and what it and its like are called.
func (d *draft) names() (dir, pattern string) {
	dir, base := filepath.Split(d.path)
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(base)) // it never fails
	return cmp.Or(dir, "."), fmt.Sprintf(".kyclink-%016x-*", hash.Sum64())
}

// workbook makes what writes a workbook to w. What it needs on the way lies beside
// OUT, so that the next run clears it away where this one is killed.
func (d *draft) workbook(w io.Writer) (err error) {
	if d.scratch, err = os.MkdirTemp(d.names()); err != nil {
		return err
	}
	d.book, err = newWorkbookWriter(w, d.scratch)
	return err
}

// tidy removes what was needed on the way.
func (d *draft) tidy() (err error) {
	if d.book != nil {
		err = d.book.discard()
	}
	if d.scratch != "" {
		err = errors.Join(err, os.RemoveAll(d.scratch))
	}
	d.book, d.scratch = nil, ""
	return err
}

// commit makes OUT what was written: after it, OUT is whole and on the disk. When
// it fails, OUT is what it was before, or whole; never half there.
func (d *draft) commit() error {
	if err := errors.Join(d.tidy(), d.file.Sync()); err != nil {
		return errors.Join(d.failed(err), d.discard())
	}
	name := d.file.Name()
	err := d.file.Close()
	d.file = nil
	if err == nil {
		err = os.Rename(name, d.path)
	}
	if err != nil {
		return errors.Join(d.failed(err), os.Remove(name))
	}
	if err := syncDir(d.path); err != nil {
		return d.failed(err)
	}
	return nil
}

// discard leaves OUT alone. After commit it does nothing.
func (d *draft) discard() error {
	if d.file == nil {
		return nil
	}
	err := errors.Join(d.tidy(), d.file.Close(), os.Remove(d.file.Name()))
	d.file = nil
	return err
}

func (d *draft) failed(err error) error {
	return &OutputError{Path: d.path, Problem: "cannot be written; check its disk and directory, then run again", Err: cause(err)}
}
