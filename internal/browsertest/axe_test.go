//go:build browser

package browsertest

import (
	_ "embed"
	"net/http"
	"strings"
	"testing"

	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/tasks"
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
	if v.Path == signInPage {
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
	b.await("the page is complete", `!document.getElementById("live") || document.querySelector("#live[data-live=on]")`)
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

// Names that cannot be wrapped at blanks are shortened or wrapped.
func TestPages_FitWithLongNames(t *testing.T) {
	t.Parallel()
	s := startSystem(t, fixture.NewAccountOn(t, server), simulator.New(simulator.Config{}), nil, callbackSettings()...)
	long, longer := strings.Repeat("x", 128), strings.Repeat("y", 2000)
	s.importRows(long, tasks.Request{ApplicationID: long})
	b := s.signedIn(apikey.Read, apikey.Operate, apikey.Enqueue)
	for _, status := range []int{http.StatusNotFound, http.StatusUnprocessableEntity} {
		b.expectStatus(status)
	}
	b.size(320, 800)
	for _, path := range []string{
		"/requests", "/requests?id=" + longer, "/requests?batch=" + longer, "/requests?since=" + longer, "/request?id=" + long, "/request?id=" + longer,
		"/batches", "/batches?find=" + longer, "/batch?name=" + long, "/batch?name=" + longer, "/batches/new?batch=" + long, "/failed?batch=" + longer, "/callbacks?host=" + longer,
		"/action?id=" + longer, "/audit", "/" + longer,
	} {
		b.visit(path)
		b.run(`document.querySelectorAll("main details").forEach((d) => { d.open = true })`)
		if n := b.overflow(); n > 0 {
			t.Errorf("%.40s is %d pixels wider than the window", path, n)
		}
	}
	b.visit("/request?id=" + longer)
	if text := b.text(".door"); strings.Contains(text, longer[:200]) || !strings.Contains(text, longer[:100]) {
		t.Errorf("the page does not shorten the ID: %s", text)
	}
	b.visit("/callbacks")
	b.click("details.fold summary")
	b.fill("input[name=url]", "https://"+strings.Repeat("z", 1500)+".example/")
	b.click(`form[action="/callbacks/test"] button`)
	b.await("the answer is there", `document.querySelector(".problem, .door")`)
	if n := b.overflow(); n > 0 {
		t.Errorf("the answer to a test event is %d pixels wider than the window", n)
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
