package lua

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kyclink/kyclink/internal/redistest"
)

var update = flag.Bool("update", false, "write the golden file")

// TestComposedScripts_MatchGolden holds what each script carries, and what it takes,
// against testdata/composed.golden: a change of a script that makes another one longer
// is seen there. Redis compiles each of them.
func TestComposedScripts_MatchGolden(t *testing.T) {
	root := filepath.Join("..", "..")
	admission := NewPackage("admission", os.DirFS(filepath.Join(root, "internal", "admission")))
	rdb := redistest.Start(t).Client(t)
	var golden strings.Builder
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
		libraries := strings.TrimSuffix(paths(l.composed), l.files[len(l.files)-1].path)
		libraries = strings.ReplaceAll(strings.TrimSpace(libraries), ".lua", "")
		fmt.Fprintf(&golden, "%s\n  arguments: %s\n", s.path(), strings.Join(l.args.names, ", "))
		if l.args.columns != nil {
			fmt.Fprintf(&golden, "  rows: %s\n", strings.Join(l.args.columns, ", "))
		}
		fmt.Fprintf(&golden, "  libraries: %s\n  local names: %d\n", libraries, len(whole.declared))
	}
	path := filepath.Join("testdata", "composed.golden")
	if *update {
		if err := os.WriteFile(path, []byte(golden.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := golden.String(); got != string(want) {
		t.Errorf("scripts are composed of\n%s\nnot of\n%s\nWrite it with go test ./internal/lua -update", got, want)
	}
}
