package main

import (
	"fmt"
	"io"
	"os"
)

// warnOfReaders warns where a file that is to take people's data exists already and
// may be read or written by others: it keeps its mode.
func warnOfReaders(w io.Writer, path string) {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o077 == 0 {
		return
	}
	fmt.Fprintf(w, "kyclink: %s exists with mode %04o, and other users may read it; remove it first, or chmod 600 %s\n", path, info.Mode().Perm(), path)
}
