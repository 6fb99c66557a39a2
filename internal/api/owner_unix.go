//go:build linux || darwin

package api

import (
	"os"
	"syscall"
)

// isOwner reports whether the user of this process owns a file.
func isOwner(info os.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int64(stat.Uid) == int64(os.Geteuid())
}
