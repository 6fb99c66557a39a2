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
	Name string // of its pictures
	Path string
	// Press selects what leads from that address to the page, if it has no address of its
	// own. The page has the route Presses then.
	Press, Presses string
	// File is the content of a file to choose before that.
	File string
}

// route is the page's route as the console registers it.
func (v view) route() string {
	path, _, _ := strings.Cut(v.Path, "?")
	switch {
	case v.Presses != "":
		return v.Presses
	case path == "/":
		return "GET /{$}"
	}
	return "GET " + path
}

// views are all pages of the console, for an account as populate fills it.
func views() []view {
	return []view{
		{Name: "now", Path: "/"},
		{Name: "requests", Path: "/requests"},
		{Name: "requests-filtered", Path: "/requests?status=held&since=2h"},
		{Name: "requests-empty", Path: "/requests?id=nothing"},
		{Name: "requests-problem", Path: "/requests?since=yesterday"},
		{Name: "request-created", Path: "/request?id=A-1001"},
		{Name: "request-failed", Path: "/request?id=" + failedID},
		{Name: "request-held", Path: "/request?id=" + heldID},
		{Name: "request-unknown", Path: "/request?id=nothing"},
		{Name: "batches", Path: "/batches"},
		{Name: "import", Path: "/batches/new"},
		{Name: "import-checked", Path: "/batches/new", Press: "form[data-upload] button.primary", Presses: "POST /batches/check", File: peopleFile},
		{Name: "batch-running", Path: "/batch?name=" + runningBatch},
		{Name: "batch-paused", Path: "/batch?name=" + pausedBatch},
		{Name: "batch-done", Path: "/batch?name=" + doneBatch},
		{Name: "failed", Path: "/failed"},
		{Name: "failed-filtered", Path: "/failed?reason=invalid_request&batch=" + doneBatch},
		{Name: "held", Path: "/held"},
		{Name: "plan-retry", Path: "/failed", Press: "button[value=retry_failed]", Presses: "POST /actions/plan"},
		{Name: "plan-drop", Path: "/held", Press: "button[value=drop_held]", Presses: "POST /actions/plan"},
		{Name: "callbacks", Path: "/callbacks"},
		{Name: "callbacks-retrying", Path: "/callbacks?status=retrying"},
		{Name: "actions", Path: "/actions"},
		{Name: "action", Path: "/actions", Press: "tbody a", Presses: "GET /action"},
		{Name: "account", Path: "/account"},
		{Name: "keys", Path: "/keys"},
		{Name: "audit", Path: "/audit"},
		{Name: "not-found", Path: noPage},
		{Name: "sign-in", Path: signInPage},
	}
}

const (
	signInPage = "/sign-in"
	noPage     = "/no-such-page"
)

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
		covered[v.route()] = true
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
