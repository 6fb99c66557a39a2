package archtest

import (
	"go/ast"
	"path"
	"strconv"
	"strings"
	"testing"
)

// TestPublicPackages_ExportNoInternalTypes ensures that other modules can use everything
// that the public packages export. An alias of an internal type counts as well: its fields
// are missing from the documentation.
func TestPublicPackages_ExportNoInternalTypes(t *testing.T) {
	t.Parallel()
	fewest := map[string]int{"tasks": 80, "worker": 40} // types and signatures, so that the test is known to find them
	for _, p := range packages(t) {
		if strings.HasPrefix(p.name, "internal/") || strings.HasPrefix(p.name, "cmd/") {
			continue
		}
		checked := 0
		for _, file := range p.shape(t) {
			internal := map[string]bool{}
			for _, spec := range file.Imports {
				if imported, _ := strconv.Unquote(spec.Path.Value); strings.Contains(imported, "/internal/") {
					name := path.Base(imported)
					if spec.Name != nil {
						name = spec.Name.Name
					}
					internal[name] = true
				}
			}
			for _, exported := range exportedTypes(file) {
				checked++
				ast.Inspect(exported, func(n ast.Node) bool {
					if s, ok := n.(*ast.SelectorExpr); ok {
						if pkg, ok := s.X.(*ast.Ident); ok && internal[pkg.Name] {
							t.Errorf("%s: an exported signature or type uses %s.%s", p.name, pkg.Name, s.Sel.Name)
						}
					}
					return true
				})
			}
		}
		if checked < fewest[p.name] || fewest[p.name] == 0 {
			t.Errorf("%s: found only %d exported types and signatures, want at least %d", p.name, checked, fewest[p.name])
		}
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
