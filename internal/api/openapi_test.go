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

func TestOpenAPI_IsValid(t *testing.T) {
	t.Parallel()
	doc, err := openAPI()
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context(), openapi3.EnableSchemaFormatValidation(), openapi3.EnableMultiError()); err != nil {
		t.Error(err)
	}
	if !strings.HasPrefix(string(document), "openapi: 3.1.") {
		t.Error("openapi.yaml does not begin with version 3.1")
	}
}

// Every operation has a summary with its scope, a unique id, one tag, and its answers.
func TestOpenAPI_DescribesExactlyTheRoutes(t *testing.T) {
	t.Parallel()
	doc, err := openAPI()
	if err != nil {
		t.Fatal(err)
	}
	scopes := map[string]apikey.Scope{"GET /healthz": anyScope}
	for _, r := range new(API).routes() {
		scopes[r.method+" "+r.path] = r.scope
	}
	names := map[string]bool{}
	var found []string
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			name := method + " " + path
			found = append(found, name)
			if scope := scopes[name]; scope != anyScope && !strings.HasSuffix(op.Summary, "(scope "+string(scope)+")") {
				t.Errorf("%s needs the scope %s; its summary is %q", name, scope, op.Summary)
			}
			if op.Summary == "" || op.OperationID == "" || names[op.OperationID] || len(op.Tags) != 1 {
				t.Errorf("%s lacks a summary, a unique operation id, or has not exactly one tag", name)
			}
			names[op.OperationID] = true
			if op.Responses.Default() == nil || op.Responses.Len() < 2 {
				t.Errorf("%s lacks the default answer or any other", name)
			}
			for _, p := range append(slices.Clone(op.Parameters), item.Parameters...) {
				if p.Value.Description == "" {
					t.Errorf("%s: parameter %s has no description", name, p.Value.Name)
				}
			}
		}
	}
	slices.Sort(found)
	if want := slices.Sorted(maps.Keys(scopes)); !slices.Equal(found, want) {
		t.Errorf("openapi.yaml describes\n%v\nthe API has\n%v", found, want)
	}
}

func TestOpenAPI_IsServed(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	a := s.expect(s.send("GET", "/v1/openapi.yaml", ""), http.StatusOK, "")
	if string(a.body) != string(document) || a.Header.Get("Content-Type") != "application/yaml" {
		t.Errorf("got %s with %d bytes, want %d bytes of application/yaml", a.Header.Get("Content-Type"), len(a.body), len(document))
	}
}
