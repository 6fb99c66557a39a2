package api

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/pb33f/libopenapi"
)

func TestTheDocumentIsValid(t *testing.T) {
	t.Parallel()
	v, err := described()
	if err != nil {
		t.Fatal(err)
	}
	if ok, errs := v.ValidateDocument(); !ok {
		for _, e := range errs {
			t.Errorf("%s: %s", e.Message, e.Reason)
			for _, s := range e.SchemaValidationErrors {
				t.Errorf("  line %d: %s at %s", s.Line, s.Reason, s.FieldPath)
			}
		}
	}
	if !strings.HasPrefix(string(document), "openapi: 3.1.") {
		t.Error("it is another version")
	}
}

// Every operation says what it is, has a name of its own, and describes what it
// answers; and the document describes what there is, and nothing else.
func TestTheDocumentIsWhole(t *testing.T) {
	t.Parallel()
	doc, err := libopenapi.NewDocument(document)
	if err != nil {
		t.Fatal(err)
	}
	model, err := doc.BuildV3Model()
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]Scope{"GET /healthz": anyScope}
	for _, r := range new(API).routes() {
		there[r.method+" "+r.path] = r.scope
	}
	names := map[string]bool{}
	var found []string
	for path, item := range model.Model.Paths.PathItems.FromOldest() {
		for method, op := range item.GetOperations().FromOldest() {
			name := strings.ToUpper(method) + " " + path
			found = append(found, name)
			if scope := there[name]; scope != anyScope && !strings.HasSuffix(op.Summary, "(scope "+string(scope)+")") {
				t.Errorf("%s needs the scope %s; its summary is %q", name, scope, op.Summary)
			}
			if op.Summary == "" || op.OperationId == "" || names[op.OperationId] || len(op.Tags) != 1 {
				t.Errorf("%s has no summary, tag or name of its own", name)
			}
			names[op.OperationId] = true
			if op.Responses.Default == nil || op.Responses.Codes.Len() == 0 {
				t.Errorf("%s does not say how it is answered", name)
			}
			for _, p := range append(slices.Clone(op.Parameters), item.Parameters...) {
				if p.Description == "" {
					t.Errorf("%s: parameter %s has no description", name, p.Name)
				}
			}
		}
	}
	slices.Sort(found)
	if want := slices.Sorted(maps.Keys(there)); !slices.Equal(found, want) {
		t.Errorf("described:\n%v\nthere are:\n%v", found, want)
	}
}

func TestTheDocumentIsServed(t *testing.T) {
	t.Parallel()
	s := open(t)
	a := s.expect(s.ask("GET", "/v1/openapi.yaml", ""), http.StatusOK, "")
	if string(a.body) != string(document) || a.Header.Get("Content-Type") != "application/yaml" {
		t.Errorf("%s: %d bytes, want %d", a.Header.Get("Content-Type"), len(a.body), len(document))
	}
}
