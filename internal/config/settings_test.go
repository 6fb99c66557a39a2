package config

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// The env tags are those of all packages.
func TestSettings_ListEveryEnvTag(t *testing.T) {
	t.Parallel()
	tags := envTags(t)
	listed := map[string]bool{}
	for _, s := range Settings() {
		if listed[s.Name] {
			t.Errorf("%s is listed twice", s.Name)
		}
		listed[s.Name] = true
		if s.Text == "" || s.Group == "" {
			t.Errorf("%s has no text or no group", s.Name)
		}
		if value, ok := tags[s.Name]; !ok {
			t.Errorf("%s is listed, but no struct has it as an env tag", s.Name)
		} else if value != "" && !strings.HasPrefix(s.Default, value) {
			t.Errorf("the default of %s is listed as %q, but its env tag has %q", s.Name, s.Default, value)
		}
	}
	for name := range tags {
		if !listed[name] {
			t.Errorf("%s is an env tag, but not listed", name)
		}
	}
}

// envTags returns the variables in the env tags of all structs of this module, with
// their defaults.
func envTags(t *testing.T) map[string]string {
	t.Helper()
	tags := map[string]string{}
	for _, dir := range []string{"cmd", "internal", "tasks", "worker"} {
		err := filepath.WalkDir(filepath.Join("..", "..", dir), func(path string, _ os.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				field, ok := n.(*ast.Field)
				if !ok || field.Tag == nil {
					return true
				}
				tag := reflect.StructTag(strings.Trim(field.Tag.Value, "`")).Get("env")
				if name, options, _ := strings.Cut(tag, ","); name != "" {
					_, tags[name], _ = strings.Cut(options, "default=")
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(tags) < 20 {
		t.Fatalf("found only %d env tags, want at least 20", len(tags))
	}
	return tags
}
