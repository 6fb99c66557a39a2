package bulk

import (
	"cmp"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
)

// draft is a file that takes OUT's place when it is whole. It is readable for
// its owner only, as it holds links.
type draft struct {
	path string   // of OUT
	file *os.File // nil when it has taken its place, or was given up
}

// open makes the file, after it removed what killed processes left: the names
// are this program's own, and OUT's.
func (d *draft) open() (err error) {
	dir, base := filepath.Split(d.path)
	dir = cmp.Or(dir, ".")
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(base)) // it never fails
	pattern := fmt.Sprintf(".kyclink-%016x-*", hash.Sum64())
	left, err := fs.Glob(os.DirFS(dir), pattern)
	for _, name := range left {
		err = errors.Join(err, os.Remove(filepath.Join(dir, name)))
	}
	if err == nil {
		d.file, err = os.CreateTemp(dir, pattern)
	}
	return err
}

// commit makes OUT what was written: after it, OUT is whole and on the disk. When
// it fails, OUT is what it was before, or whole; never half there.
func (d *draft) commit() error {
	if err := d.file.Sync(); err != nil {
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
	err := errors.Join(d.file.Close(), os.Remove(d.file.Name()))
	d.file = nil
	return err
}

func (d *draft) failed(err error) error {
	return &OutputError{Path: d.path, Problem: "cannot be written; check its disk and directory, then run again", Err: cause(err)}
}
