package lua

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kyclink/kyclink/internal/redistest"
)

var update = flag.Bool("update", false, "write the golden files")

// testdata/composed.golden lists what each script carries and takes, and the files of
// testdata/composed are the composed scripts, without comments: a change of a library
// shows there in every script that it changes. Redis compiles each of them.
func TestComposedScripts_MatchGolden(t *testing.T) {
	root := filepath.Join("..", "..")
	admission := NewPackage("admission", os.DirFS(filepath.Join(root, "internal", "admission")))
	rdb := redistest.Start(t).Client(t)
	var overview strings.Builder
	golden := map[string]string{} // by path in testdata
	for _, s := range sources(t) {
		if s.library {
			continue
		}
		p := NewPackage(filepath.Base(s.directory), os.DirFS(filepath.Join(root, s.directory)), admission)
		l, err := p.Script(s.name + ".lua").load()
		if err != nil {
			t.Error(err)
			continue
		}
		if err := l.redis.Load(t.Context(), rdb).Err(); err != nil {
			t.Errorf("%s: %v", s.path(), err)
		}
		whole, err := readChunk(s.path(), l.text)
		if err != nil {
			t.Errorf("%s: %v", s.path(), err)
		}
		if len(whole.declared) > 190 { // Lua allows 200
			t.Errorf("%s declares %d local names with its libraries", s.path(), len(whole.declared))
		}
		for _, name := range whole.free {
			if !slices.Contains(provided, name) {
				t.Errorf("%s: %s is local to the block of its library and used after it", s.path(), name)
			}
		}
		libraries := strings.TrimSuffix(paths(l.composed), l.files[len(l.files)-1].path)
		libraries = strings.ReplaceAll(strings.TrimSpace(libraries), ".lua", "")
		fmt.Fprintf(&overview, "%s\n  arguments: %s\n", s.path(), strings.Join(l.args.names, ", "))
		if l.args.columns != nil {
			fmt.Fprintf(&overview, "  rows: %s\n", strings.Join(l.args.columns, ", "))
		}
		fmt.Fprintf(&overview, "  libraries: %s\n  local names: %d\n", libraries, len(whole.declared))
		golden["composed/"+filepath.Base(s.directory)+"/"+s.name+".lua"] = program(l.composed)
	}
	golden["composed.golden"] = overview.String()
	compareGolden(t, golden)
}

// program returns a composed script without comments and blank lines. The path of each
// file stands before its lines.
func program(c composed) string {
	var text strings.Builder
	lines := slices.Collect(strings.Lines(c.text))
	for _, f := range c.files {
		n := strings.Count(f.text, "\n")
		first, _, _ := strings.Cut(lines[0], "--") // begins a block and ends the one before
		fmt.Fprintf(&text, "-- %s\n%s\n", f.path, strings.TrimSpace(first))
		for _, line := range lines[1:n] {
			if code := strings.TrimSpace(line); code != "" && !strings.HasPrefix(code, "--") {
				text.WriteString(line)
			}
		}
		lines = lines[n:]
	}
	return text.String()
}

// compareGolden compares files of testdata with what they must contain, or writes them
// with -update. No other file may be in testdata.
func compareGolden(t *testing.T, want map[string]string) {
	t.Helper()
	if *update && !t.Failed() {
		writeGolden(t, want)
	}
	const advice = "; if that is right, write it with go test ./internal/lua -update"
	found := map[string]bool{}
	err := fs.WalkDir(os.DirFS("testdata"), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		found[path] = true
		got, err := os.ReadFile(filepath.Join("testdata", filepath.FromSlash(path)))
		if text, ok := want[path]; !ok {
			t.Errorf("testdata/%s belongs to no script%s", path, advice)
		} else if text != string(got) {
			t.Errorf("testdata/%s differs from line %d on%s", path, differs(text, string(got)), advice)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for path := range want {
		if !found[path] {
			t.Errorf("testdata/%s is missing%s", path, advice)
		}
	}
}

func writeGolden(t *testing.T, files map[string]string) {
	t.Helper()
	if err := os.RemoveAll("testdata"); err != nil {
		t.Fatal(err)
	}
	for path, text := range files {
		path = filepath.Join("testdata", filepath.FromSlash(path))
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// differs returns the first line in which two texts differ.
func differs(a, b string) int {
	lines, others := strings.Split(a, "\n"), strings.Split(b, "\n")
	n := 0
	for n < len(lines) && n < len(others) && lines[n] == others[n] {
		n++
	}
	return n + 1
}
