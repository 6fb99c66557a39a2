package api

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/kyclink/kyclink/internal/apikey"
)

func TestTheDocumentIsValid(t *testing.T) {
	t.Parallel()
	doc, err := described()
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context(), openapi3.EnableSchemaFormatValidation(), openapi3.EnableMultiError()); err != nil {
		t.Error(err)
	}
	if !strings.HasPrefix(string(document), "openapi: 3.1.") {
		t.Error("it is another version")
	}
}

// Every operation says what it is, has a name of its own, and describes what it
// answers; and the document describes what there is, and nothing else.
func TestTheDocumentIsWhole(t *testing.T) {
	t.Parallel()
	doc, err := described()
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]apikey.Scope{"GET /healthz": anyScope}
	for _, r := range new(API).routes() {
		there[r.method+" "+r.path] = r.scope
	}
	names := map[string]bool{}
	var found []string
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			name := method + " " + path
			found = append(found, name)
			if scope := there[name]; scope != anyScope && !strings.HasSuffix(op.Summary, "(scope "+string(scope)+")") {
				t.Errorf("%s needs the scope %s; its summary is %q", name, scope, op.Summary)
			}
			if op.Summary == "" || op.OperationID == "" || names[op.OperationID] || len(op.Tags) != 1 {
				t.Errorf("%s has no summary, tag or name of its own", name)
			}
			names[op.OperationID] = true
			if op.Responses.Default() == nil || op.Responses.Len() < 2 {
				t.Errorf("%s does not say how it is answered", name)
			}
			for _, p := range append(slices.Clone(op.Parameters), item.Parameters...) {
				if p.Value.Description == "" {
					t.Errorf("%s: parameter %s has no description", name, p.Value.Name)
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
