package doctest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// step is a reference such as `worker/pipeline.go` `pipeline.Handle`, or to a
// function of a Lua file.
var step = regexp.MustCompile("`([\\w./-]+\\.(go|lua))` `([\\w.]+)`")

func TestWalks_NameFunctionsThatExist(t *testing.T) {
	root := Root(t)
	for _, p := range Pages(t) {
		steps := 0
		for i, line := range strings.Split(p.Text, "\n") {
			for _, m := range step.FindAllStringSubmatch(line, -1) {
				steps++
				if problem := unresolved(filepath.Join(root, filepath.FromSlash(m[1])), m[3]); problem != "" {
					t.Errorf("%s:%d: `%s` `%s`: %s", p.Path, i+1, m[1], m[3], problem)
				}
			}
		}
		if p.Path == "docs/architecture.md" && steps < 20 {
			t.Errorf("%s has %d steps only", p.Path, steps)
		}
	}
}

// unresolved says why a file does not declare a function; "" if it does.
func unresolved(file, function string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return "no such file"
	}
	if filepath.Ext(file) == ".lua" {
		if !regexp.MustCompile(`(?m)^\s*(local )?function ` + regexp.QuoteMeta(function) + `\(`).Match(text) {
			return "the file has no such function"
		}
		return ""
	}
	parsed, err := parser.ParseFile(token.NewFileSet(), file, text, parser.SkipObjectResolution)
	if err != nil {
		return err.Error()
	}
	if !functions(parsed)[function] {
		return "the file has no such function"
	}
	return ""
}

// functions are those of a file; a method is called Type.Method.
func functions(file *ast.File) map[string]bool {
	found := map[string]bool{}
	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		name := f.Name.Name
		if f.Recv != nil {
			name = receiver(f.Recv.List[0].Type) + "." + name
		}
		found[name] = true
	}
	return found
}

func receiver(t ast.Expr) string {
	switch t := t.(type) {
	case *ast.StarExpr:
		return receiver(t.X)
	case *ast.IndexExpr:
		return receiver(t.X)
	case *ast.IndexListExpr:
		return receiver(t.X)
	case *ast.Ident:
		return t.Name
	}
	return ""
}

// identifier is a name of a package and of something that it declares.
var identifier = regexp.MustCompile(`^([a-z]+)\.([A-Z]\w*)(\.\w+)?$`)

// TestGlossary_NamesCodeThatExists resolves the names in the glossary, such as
// tasks.Request.
func TestGlossary_NamesCodeThatExists(t *testing.T) {
	root := Root(t)
	for _, p := range Pages(t) {
		if p.Path != "docs/glossary.md" {
			continue
		}
		resolved := 0
		for _, c := range p.Code() {
			m := identifier.FindStringSubmatch(c.Text)
			if m == nil || !c.Inline {
				continue
			}
			resolved++
			if !declared(t, root, m[1], m[2]) {
				t.Errorf("%s:%d: no package %s declares %s", p.Path, c.Line, m[1], m[2])
			}
		}
		if resolved < 10 {
			t.Errorf("the glossary has %d names only", resolved)
		}
	}
}

// declared reports whether a package of this name declares a type, function, method,
// constant or variable.
func declared(t *testing.T, root, pkg, name string) bool {
	t.Helper()
	found := false
	for _, pattern := range []string{path.Join(pkg, "*.go"), path.Join("internal", pkg, "*.go"), path.Join("internal", "*", pkg, "*.go")} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range parsed.Decls {
				switch d := d.(type) {
				case *ast.FuncDecl:
					found = found || d.Name.Name == name
				case *ast.GenDecl:
					for _, s := range d.Specs {
						found = found || specifies(s, name)
					}
				}
			}
		}
	}
	return found
}

func specifies(s ast.Spec, name string) bool {
	switch s := s.(type) {
	case *ast.TypeSpec:
		return s.Name.Name == name
	case *ast.ValueSpec:
		for _, n := range s.Names {
			if n.Name == name {
				return true
			}
		}
	}
	return false
}
