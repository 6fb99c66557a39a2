package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const epoch = 1790000000

// inWork returns a release whose work folder has invented files, written at a time.
func inWork(t *testing.T, at time.Time, mode os.FileMode) release {
	t.Helper()
	r := release{source: source{version: "1.2.3", epoch: epoch}, out: t.TempDir(), work: t.TempDir()}
	names := []string{"linux_amd64/kyclink", "windows_arm64/kyclink.exe", "man/kyclink.1", "man/kyclink-run.1"}
	for _, script := range shells() {
		names = append(names, "completions/"+script)
	}
	for _, name := range names {
		file := filepath.Join(r.work, name)
		must(t, write(file, "content of "+name))
		must(t, os.Chmod(file, mode))
		must(t, os.Chtimes(file, at, at))
	}
	return r
}

func TestArchive_ContainsWhatAUserNeeds(t *testing.T) {
	r := inWork(t, time.Now(), 0o600)
	t.Chdir("../..")
	for _, at := range []target{{"linux", "amd64"}, {"windows", "arm64"}} {
		must(t, r.archive(at))
	}
	more := []string{
		"LICENSE", "README.md", "CHANGELOG.md", "completions/_kyclink", "completions/kyclink.bash", "completions/kyclink.fish",
		"completions/kyclink.ps1", "man/kyclink-run.1", "man/kyclink.1",
	}
	for archive, want := range map[string]struct {
		list    func(t *testing.T, data []byte) []packed
		program string
	}{
		"kyclink_1.2.3_linux_amd64.tar.gz": {listTarball, "kyclink"},
		"kyclink_1.2.3_windows_arm64.zip":  {listZip, "kyclink.exe"},
	} {
		data, err := os.ReadFile(filepath.Join(r.out, archive))
		must(t, err)
		files := want.list(t, data)
		var names []string
		folder := strings.TrimSuffix(strings.TrimSuffix(archive, ".tar.gz"), ".zip")
		for i, f := range files {
			relative, err := filepath.Rel(folder, f.name)
			must(t, err)
			names = append(names, relative)
			if executable := i == 0; !f.at.Equal(time.Unix(epoch, 0)) || f.mode != map[bool]os.FileMode{true: 0o755, false: 0o644}[executable] {
				t.Errorf("%s: %s has mode %v and time %v", archive, f.name, f.mode, f.at)
			}
		}
		if expected := append([]string{want.program}, more...); !slices.Equal(names, expected) {
			t.Errorf("%s contains\n%q, want\n%q", archive, names, expected)
		}
	}
}

// Neither when nor with which umask the files were written changes an archive.
func TestArchive_DependsOnContentsOnly(t *testing.T) {
	first, second := inWork(t, time.Unix(epoch-1000, 0), 0o600), inWork(t, time.Unix(epoch+1000, 0), 0o755)
	t.Chdir("../..")
	for _, at := range []target{{"linux", "amd64"}, {"windows", "arm64"}} {
		must(t, errors.Join(first.archive(at), second.archive(at)))
	}
	must(t, errors.Join(first.checksums(), second.checksums()))
	one, err := os.ReadFile(filepath.Join(first.out, "SHA256SUMS"))
	must(t, err)
	other, err := os.ReadFile(filepath.Join(second.out, "SHA256SUMS"))
	must(t, err)
	if !bytes.Equal(one, other) || bytes.Count(one, []byte("\n")) != 2 {
		t.Errorf("two builds differ:\n%s\n%s", one, other)
	}
}

// packed is a file in an archive.
type packed struct {
	name string
	mode os.FileMode
	at   time.Time
}

func listTarball(t *testing.T, data []byte) (all []packed) {
	t.Helper()
	uncompressed, err := gzip.NewReader(bytes.NewReader(data))
	must(t, err)
	for archive := tar.NewReader(uncompressed); ; {
		h, err := archive.Next()
		if err == io.EOF {
			return all
		}
		must(t, err)
		if h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.Gname != "" {
			t.Errorf("%s belongs to %d %q, %d %q", h.Name, h.Uid, h.Uname, h.Gid, h.Gname)
		}
		all = append(all, packed{h.Name, h.FileInfo().Mode(), h.ModTime})
	}
}

func listZip(t *testing.T, data []byte) (all []packed) {
	t.Helper()
	archive, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	must(t, err)
	for _, f := range archive.File {
		all = append(all, packed{f.Name, f.Mode(), f.Modified})
	}
	return all
}
