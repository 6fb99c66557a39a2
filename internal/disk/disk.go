// Package disk makes new and renamed files durable.
package disk

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
)

// SyncDirOf makes the creation or renaming of a file durable. Windows has no such call.
func SyncDirOf(path string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
