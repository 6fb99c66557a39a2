//go:build browser

package browsertest

import (
	_ "embed"
	"net/http"
	"strings"
	"testing"

	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/fixture"
)

// axeSource is axe-core, which finds violations of the Web Content Accessibility Guidelines.
//
//go:embed testdata/axe.min.js
var axeSource string

// runAxe examines a page by the rules of WCAG 2.2, levels A and AA.
const runAxe = `axe.run(document, {
	runOnly: {type: "tag", values: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]},
	resultTypes: ["violations"],
}).then((found) => found.violations.map((v) =>
	v.id + ": " + v.help + v.nodes.map((n) => "\n    " + n.target.join(" ") + ": " + n.failureSummary.replaceAll("\n", " ")).join("")))`

// violations returns what axe-core finds on the page.
func (b *tab) violations() []string {
	b.Helper()
	b.run(axeSource)
	return value[[]string](b, runAxe)
}

// overflow returns how many pixels the page is wider than the window.
func (b *tab) overflow() int {
	b.Helper()
	return value[int](b, `document.documentElement.scrollWidth - document.documentElement.clientWidth`)
}

// openView opens a page as a person comes to it.
func (b *tab) openView(v view) {
	b.Helper()
	if v.Route == "GET /sign-in" {
		b.signOut()
	}
	b.visit(v.Path)
	if v.File != "" {
		b.choose(fixture.File(b, "people.csv", v.File))
	}
	if v.Press != "" {
		b.run(mark)
		b.click(v.Press)
		b.await(v.Name+" is open", `!window.marked || document.getElementById("t-check")`)
	}
	b.complete()
}

// complete waits until a page is live, if it ever is.
func (b *tab) complete() {
	b.Helper()
	b.await("the page is complete", `document.readyState === "complete" && (!document.getElementById("live") || document.querySelector("#live[data-live=on]"))`)
}

func (b *tab) signOut() {
	b.Helper()
	b.visit("/")
	b.click(".me summary")
	b.click(`.me form button:not([name])`)
	b.await("the sign-in is open", `location.pathname === "/sign-in"`)
}

// look is how a page is looked at.
type look struct {
	scheme string
	width  int64
}

func TestPages_AreAccessible(t *testing.T) {
	s := newBusySystem(t)
	t.Run("busy", func(t *testing.T) { s.in(t).examine(look{"light", 1280}, look{"dark", 1280}) })
	s.breakFaceKi()
	t.Run("outage", func(t *testing.T) { s.in(t).examine(look{"light", 390}, look{"dark", 320}) })
}

// examine looks at all pages for violations, and for content that the window cuts off.
func (s *system) examine(looks ...look) {
	s.Helper()
	b := s.signedIn(apikey.Read, apikey.Operate, apikey.Enqueue)
	b.expectStatus(http.StatusNotFound)
	b.expectStatus(http.StatusUnprocessableEntity)
	for _, v := range views() {
		b.openView(v)
		b.run(`document.querySelectorAll("main details").forEach((d) => { d.open = true })`)
		for _, l := range looks {
			b.size(l.width, 800)
			b.prefer(l.scheme)
			for _, violation := range b.violations() {
				b.Errorf("%s, %s, %d pixels: %s", v.Name, l.scheme, l.width, violation)
			}
			if n := b.overflow(); n > 0 {
				b.Errorf("%s is %d pixels wider than the window of %d pixels", v.Name, n, l.width)
			}
		}
	}
}

// TestAxe_FindsViolations proves that axe-core runs although the policy of the pages permits
// no foreign script.
func TestAxe_FindsViolations(t *testing.T) {
	s := newSystem(t, noFaults)
	b := s.open(apikey.Read)
	b.visit("/sign-in")
	b.run(`document.documentElement.lang = ""`)
	if found := strings.Join(b.violations(), "\n"); !strings.Contains(found, "html-has-lang") {
		t.Errorf("a page without a language is not found: %q", found)
	}
}
