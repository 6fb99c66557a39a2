package archtest

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	mostExported  = 25  // package-level names of a package
	mostFields    = 8   // of a struct of the worker
	mostLines     = 400 // of a file
	mostTestLines = 450
	fewestLines   = 20
)

// small lists files that are short for a reason.
func small() map[string]string {
	return map[string]string{
		"internal/fixture/short.go":          "the part of make test",
		"internal/fixture/long.go":           "the part of make test-long",
		"internal/faceki/socket_other.go":    "one system's part of socket_unix.go",
		"cmd/kyclink/unread_other.go":        "the other systems' part of unread.go",
		"internal/connection/limit_unix.go":  "one system's part",
		"internal/connection/limit_other.go": "the other systems' part",
		"internal/api/owner_unix.go":         "one system's part",
		"internal/api/owner_other.go":        "the other systems' part",
		"internal/redistest/orphan_linux.go": "one system's part",
		"internal/redistest/orphan_other.go": "the other systems' part",
		"internal/failpoint/off.go":          "on.go as the released program has it",
		"internal/failpoint/failpoint.go":    "what on.go and off.go have in common",
	}
}

// workers are the packages that a worker consists of.
func workers() []string {
	return []string{"worker", "internal/feeder", "internal/recovery", "internal/dispatch", "internal/asynqx", "internal/lifecycle"}
}

// shape is a package's syntax, without its tests.
func (p listed) shape(t *testing.T) []*ast.File {
	t.Helper()
	var files []*ast.File
	for _, name := range slices.Concat(p.GoFiles, p.IgnoredGoFiles) {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	return files
}

// exported are a package's exported package-level names. The constants of an
// enumeration, which have a type of their own package, count as that type, and
// methods as the type that has them.
func exported(files []*ast.File) []string {
	types := map[string]bool{}
	for _, f := range files {
		for _, d := range f.Decls {
			if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.TYPE {
				for _, s := range g.Specs {
					types[s.(*ast.TypeSpec).Name.Name] = true
				}
			}
		}
	}
	names := map[string]bool{}
	add := func(ids ...*ast.Ident) {
		for _, id := range ids {
			if id.IsExported() {
				names[id.Name] = true
			}
		}
	}
	for _, f := range files {
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil {
					add(d.Name)
				}
			case *ast.GenDecl:
				enum := false // of the constants before, whose type those without a value have, too
				for _, s := range d.Specs {
					switch s := s.(type) {
					case *ast.TypeSpec:
						add(s.Name)
					case *ast.ValueSpec:
						if s.Type != nil || len(s.Values) > 0 {
							enum = d.Tok == token.CONST && types[typeName(s)]
						}
						if !enum {
							add(s.Names...)
						}
					}
				}
			}
		}
	}
	all := make([]string, 0, len(names))
	for name := range names {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

// typeName is the type of a constant if it is declared: X in "C X = 1" and in
// "C = X(1)".
func typeName(s *ast.ValueSpec) string {
	of := s.Type
	if of == nil && len(s.Values) > 0 {
		if call, ok := s.Values[0].(*ast.CallExpr); ok {
			of = call.Fun
		}
	}
	if id, ok := of.(*ast.Ident); ok {
		return id.Name
	}
	return ""
}

// TestPackages_ExportFewNames leaves out tasks, which is what other modules use.
func TestPackages_ExportFewNames(t *testing.T) {
	for _, p := range packages(t) {
		names := exported(p.shape(t))
		if p.name != "tasks" && len(names) > mostExported {
			t.Errorf("%s exports %d names; %d are the limit: %s", p.name, len(names), mostExported, strings.Join(names, " "))
		}
	}
}

// TestWorker_HasSmallStructs leaves out Config, which has a field for each setting.
func TestWorker_HasSmallStructs(t *testing.T) {
	for _, p := range packages(t) {
		if !slices.Contains(workers(), p.name) {
			continue
		}
		for _, f := range p.shape(t) {
			ast.Inspect(f, func(n ast.Node) bool {
				spec, ok := n.(*ast.TypeSpec)
				if !ok {
					return true
				}
				structure, ok := spec.Type.(*ast.StructType)
				if !ok || spec.Name.Name == "Config" {
					return true
				}
				name := p.name + "." + spec.Name.Name
				if n := structure.Fields.NumFields(); n > mostFields {
					t.Errorf("%s has %d fields; %d are the limit", name, n, mostFields)
				}
				return true
			})
		}
	}
}

func TestFiles_AreNeitherLongNorTiny(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range packages(t) {
		for _, base := range slices.Concat(p.GoFiles, p.TestGoFiles, p.XTestGoFiles, p.IgnoredGoFiles) {
			name, most := p.name+"/"+base, mostLines
			content, err := os.ReadFile(filepath.Join(p.Dir, base))
			if err != nil {
				t.Fatal(err)
			}
			test := strings.HasSuffix(base, "_test.go")
			if test {
				most = mostTestLines
			}
			lines := bytes.Count(content, []byte("\n"))
			over, under := lines > most, lines < fewestLines && !test
			_, reason := small()[name]
			if base == "scripts.go" && under { // it embeds the Lua files beside it, and that is all
				continue
			}
			seen[name] = true
			switch {
			case over:
				t.Errorf("%s has %d lines; %d are the limit", name, lines, most)
			case under && !reason:
				t.Errorf("%s has %d lines: join it with another file, or give a reason in small", name, lines)
			case !under && reason:
				t.Errorf("%s has %d lines: remove it from small", name, lines)
			}
		}
	}
	for name := range small() {
		if !seen[name] {
			t.Errorf("%s does not exist: remove it from small", name)
		}
	}
}

func TestExported_CountsAnEnumerationOnce(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "x.go", `package x
type Kind string
type hidden int
const (
	First Kind = "1"
	Second = Kind("2")
	Third hidden = iota
	Fourth
	Limit = 5
)
const Most, few = 1, 2
var V, w = 1, 2
func F() {}
func (k Kind) Method() {}
`, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(exported([]*ast.File{f}), " "); got != "F Kind Limit Most V" {
		t.Errorf("got %s", got)
	}
}
