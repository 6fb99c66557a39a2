// Package browsertest tests the operator console in a real Chromium: real processes of
// kyclink worker and kyclink serve, a real Redis, and the simulated FaceKi. Every test fails
// if a page writes an error to the browser's console, violates its Content-Security-Policy
// or asks another origin for anything.
//
// The tests have the build tag browser, because they need Chromium: run make test-browser.
// The same tests write pictures of all pages with make screenshots. Without the tag, the
// package only checks that its list of pages is complete. There is nothing in it to import.
package browsertest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// view is a page with an address that makes it show something.
type view struct {
	Route string // as the console registers it
	Path  string
	Name  string // of its pictures
	// Press selects what leads from that address to the page, if it has no address of its
	// own.
	Press string
	// File is the content of a file to choose before that.
	File string
}

// views are all pages of the console, for an account as populate fills it.
func views() []view {
	return []view{
		{"GET /{$}", "/", "now", "", ""},
		{"GET /requests", "/requests", "requests", "", ""},
		{"GET /requests", "/requests?status=held&since=2h", "requests-filtered", "", ""},
		{"GET /requests", "/requests?id=nothing", "requests-empty", "", ""},
		{"GET /requests", "/requests?since=yesterday", "requests-problem", "", ""},
		{"GET /request", "/request?id=A-1001", "request-created", "", ""},
		{"GET /request", "/request?id=" + failedID, "request-failed", "", ""},
		{"GET /request", "/request?id=" + heldID, "request-held", "", ""},
		{"GET /request", "/request?id=nothing", "request-unknown", "", ""},
		{"GET /batches", "/batches", "batches", "", ""},
		{"GET /batches/new", "/batches/new", "import", "", ""},
		{"POST /batches/check", "/batches/new", "import-checked", "form[data-upload] button.primary", peopleFile},
		{"GET /batch", "/batch?name=" + runningBatch, "batch-running", "", ""},
		{"GET /batch", "/batch?name=" + pausedBatch, "batch-paused", "", ""},
		{"GET /batch", "/batch?name=" + doneBatch, "batch-done", "", ""},
		{"GET /failed", "/failed", "failed", "", ""},
		{"GET /failed", "/failed?reason=invalid_request&batch=" + doneBatch, "failed-filtered", "", ""},
		{"GET /held", "/held", "held", "", ""},
		{"POST /actions/plan", "/failed", "plan-retry", "button[value=retry_failed]", ""},
		{"POST /actions/plan", "/held", "plan-drop", "button[value=drop_held]", ""},
		{"GET /callbacks", "/callbacks", "callbacks", "", ""},
		{"GET /callbacks", "/callbacks?status=retrying", "callbacks-retrying", "", ""},
		{"GET /actions", "/actions", "actions", "", ""},
		{"GET /action", "/actions", "action", "tbody a", ""},
		{"GET /account", "/account", "account", "", ""},
		{"GET /keys", "/keys", "keys", "", ""},
		{"GET /audit", "/audit", "audit", "", ""},
		{"/", "/no-such-page", "not-found", "", ""},
		{"GET /sign-in", "/sign-in", "sign-in", "", ""},
	}
}

// peopleFile is a file of which one row is refused.
const peopleFile = `application_id,redirect_url,name
A-3001,https://shop.example/done,Person 1
A-3002,https://shop.example/done,Person 2
A-3003,http://shop.example/done,Person 3
`

// Requests and batches of the views.
const (
	failedID     = "bad-1018"
	heldID       = "held-1007"
	runningBatch = "spring-onboarding"
	pausedBatch  = "partner-migration"
	doneBatch    = "pilot-march"
)

// parts are routes that are not pages: other tests load them as parts of pages.
func parts() []string {
	return []string{"GET /live", "GET /static/{name}", "GET /batch/progress", "GET /failed/groups", "GET /held/groups", "GET /callbacks/groups", "GET /action/progress"}
}

// TestViews_ContainEveryRoute compares the views with the routes in the console's source.
func TestViews_ContainEveryRoute(t *testing.T) {
	covered := map[string]bool{}
	for _, v := range views() {
		covered[v.Route] = true
	}
	for _, route := range parts() {
		covered[route] = true
	}
	routes := 0
	files, err := filepath.Glob("../console/*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("find the console's source: %d files, %v", len(files), err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, source, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			literal, ok := n.(*ast.BasicLit)
			if !ok || literal.Kind != token.STRING {
				return true
			}
			route, err := strconv.Unquote(literal.Value)
			if err != nil || !strings.HasPrefix(route, "GET /") {
				return true
			}
			routes++
			if !covered[route] {
				t.Errorf("%s registers %q: add the page to views, or to parts if it is none", name, route)
			}
			return true
		})
	}
	if routes < 10 {
		t.Errorf("found only %d routes in the console's source", routes)
	}
}
