package main

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"
)

// entry is a file in an archive.
type entry struct {
	name string // below the archive's only folder
	from string
	mode fs.FileMode
}

// entries returns the content of a platform's archive, in its order.
func (r release) entries(t target) ([]entry, error) {
	all := []entry{{t.program(), r.binary(t), 0o755}}
	for _, name := range []string{"LICENSE", "README.md", "CHANGELOG.md"} {
		all = append(all, entry{name, name, 0o644})
	}
	for _, folder := range []string{"completions", "man"} {
		files, err := os.ReadDir(filepath.Join(r.work, folder)) // sorted
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			all = append(all, entry{path.Join(folder, f.Name()), filepath.Join(r.work, folder, f.Name()), 0o644})
		}
	}
	return all, nil
}

// archive writes the archive of a platform: a .zip for Windows, otherwise a .tar.gz.
func (r release) archive(t target) error {
	entries, err := r.entries(t)
	if err != nil {
		return err
	}
	extension, pack := ".tar.gz", tarball
	if t.os == "windows" {
		extension, pack = ".zip", zipped
	}
	file, err := os.Create(filepath.Join(r.out, r.name(t)+extension))
	if err != nil {
		return err
	}
	return errors.Join(pack(file, r.name(t), entries, time.Unix(r.source.epoch, 0).UTC()), file.Close())
}

// tarball writes files, all of the same time, as a .tar.gz with one folder. It depends on
// nothing but the content and the modes of the entries: not on owners, times and umask.
func tarball(w io.Writer, folder string, entries []entry, at time.Time) error {
	compressed, err := gzip.NewWriterLevel(w, gzip.BestCompression)
	if err != nil {
		return err
	}
	archive := tar.NewWriter(compressed)
	for _, e := range entries {
		content, err := os.ReadFile(e.from)
		if err != nil {
			return err
		}
		header := &tar.Header{Name: path.Join(folder, e.name), Mode: int64(e.mode), Size: int64(len(content)), ModTime: at}
		if err := archive.WriteHeader(header); err != nil {
			return err
		}
		if _, err := archive.Write(content); err != nil {
			return err
		}
	}
	return errors.Join(archive.Close(), compressed.Close())
}

// zipped is tarball as a .zip.
func zipped(w io.Writer, folder string, entries []entry, at time.Time) error {
	archive := zip.NewWriter(w)
	for _, e := range entries {
		content, err := os.ReadFile(e.from)
		if err != nil {
			return err
		}
		header := &zip.FileHeader{Name: path.Join(folder, e.name), Method: zip.Deflate, Modified: at}
		header.SetMode(e.mode)
		file, err := archive.CreateHeader(header)
		if err != nil {
			return err
		}
		if _, err := file.Write(content); err != nil {
			return err
		}
	}
	return archive.Close()
}
