package tasks_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Other modules can use everything that the package exports.
func TestPackage_ExportsNoInternalTypes(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		internal := map[string]bool{}
		for _, spec := range file.Imports {
			if p, _ := strconv.Unquote(spec.Path.Value); strings.Contains(p, "/internal/") {
				internal[path.Base(p)] = true
			}
		}
		for _, exported := range exportedTypes(file) {
			checked++
			ast.Inspect(exported, func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok {
					if pkg, ok := s.X.(*ast.Ident); ok && internal[pkg.Name] {
						t.Errorf("%s: an exported signature or type uses %s.%s", fset.Position(n.Pos()), pkg.Name, s.Sel.Name)
					}
				}
				return true
			})
		}
	}
	if checked < 80 {
		t.Errorf("found only %d exported types and signatures, want at least 80", checked)
	}
}

// exportedTypes returns the signatures, fields and types that other packages see.
func exportedTypes(file *ast.File) (exported []ast.Node) {
	for _, decl := range file.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if d.Name.IsExported() && (d.Recv == nil || ast.IsExported(receiver(d.Recv.List[0].Type))) {
				exported = append(exported, d.Type)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch s := spec.(type) {
				case *ast.ValueSpec:
					if s.Names[0].IsExported() && s.Type != nil {
						exported = append(exported, s.Type)
					}
				case *ast.TypeSpec:
					if s.Name.IsExported() {
						exported = append(exported, visible(s.Type)...)
					}
				}
			}
		}
	}
	return exported
}

func receiver(e ast.Expr) string {
	if star, ok := e.(*ast.StarExpr); ok {
		e = star.X
	}
	name, _ := e.(*ast.Ident)
	return name.Name
}

// visible returns the parts of a type that other packages see: all of it, or the
// exported fields of a struct.
func visible(e ast.Expr) []ast.Node {
	s, ok := e.(*ast.StructType)
	if !ok {
		return []ast.Node{e}
	}
	var fields []ast.Node
	for _, f := range s.Fields.List {
		if len(f.Names) == 0 || f.Names[0].IsExported() {
			fields = append(fields, f.Type)
		}
	}
	return fields
}
