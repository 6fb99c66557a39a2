package lua

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// provided are the names that Redis gives to every script.
var provided = []string{"KEYS", "ARGV", "redis", "cjson", "string", "table", "math", "unpack", "tonumber", "tostring",
	"ipairs", "pairs", "select", "error", "pcall", "type", "rawget", "setmetatable"}

// source is one .lua file of the module.
type source struct {
	directory, name, text string
	chunk
}

func (s source) path() string { return s.directory + "/" + s.name + ".lua" }

// uses are the libraries that its comment names.
func (s source) uses() []string {
	var names []string
	for _, line := range regexp.MustCompile(`(?m)^-- uses: (.*)$`).FindAllStringSubmatch(s.text, -1) {
		names = append(names, strings.Split(line[1], ", ")...)
	}
	return names
}

// sources reads every .lua file of the module, golden files excepted.
func sources(t *testing.T) []source {
	t.Helper()
	root := filepath.Join("..", "..")
	var all []source
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && d.Name() == "testdata" {
			return fs.SkipDir
		}
		if err != nil || d.IsDir() || filepath.Ext(path) != ".lua" {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		s := source{filepath.ToSlash(filepath.Dir(relative)), strings.TrimSuffix(d.Name(), ".lua"), string(text), chunk{}}
		s.chunk, err = readChunk(s.path(), s.text)
		all = append(all, s)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestLibrariesAreNamed holds the line "-- uses:" of each file against the names that
// the file uses.
func TestLibrariesAreNamed(t *testing.T) {
	all := sources(t)
	// A name is declared in one library, wherever that is.
	declaredIn := map[string]source{}
	for _, s := range all {
		if !s.library {
			continue
		}
		for _, name := range s.declared {
			if other, ok := declaredIn[name]; ok && name != "_" {
				t.Errorf("%s is declared in %s and in %s", name, other.path(), s.path())
			}
			declaredIn[name] = s
		}
	}
	used := map[string]bool{}
	for _, s := range all {
		needed := map[string]bool{}
		for _, name := range s.free {
			library, ok := declaredIn[name]
			switch {
			case slices.Contains(provided, name):
			case !ok:
				t.Errorf("%s uses %s, which no library declares", s.path(), name)
			case library.path() != s.path():
				needed[library.name] = true
				used[name] = true
				if !slices.Contains(s.uses(), library.name) {
					t.Errorf("%s uses %s and does not name %s", s.path(), name, library.path())
				}
			}
		}
		for _, name := range s.uses() {
			if !needed[name] {
				t.Errorf("%s names the library %s and does not use it", s.path(), name)
			}
		}
	}
	for _, s := range all {
		if s.library && !slices.ContainsFunc(s.declared, func(name string) bool { return used[name] }) {
			t.Errorf("nothing uses the library %s", s.path())
		}
	}
}
