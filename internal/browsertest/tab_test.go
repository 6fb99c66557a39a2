//go:build browser

package browsertest

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/fixture"
)

// tab is a page in a browser profile of its own. The test fails at its end if the page had
// an error.
type tab struct {
	testing.TB

	in     func(func(context.Context) error) error // calls with a context that ends in time
	system *system
	key    string // signs in

	mu       sync.Mutex
	problems []string
	expected []*regexp.Regexp
}

// actionTimeout limits one action of the browser on an overloaded machine.
const actionTimeout = 5 * time.Minute

// reportViolations makes every page report violations of its Content-Security-Policy.
const reportViolations = `document.addEventListener("securitypolicyviolation", (e) =>
	reportViolation(e.violatedDirective + " " + e.blockedURI + " " + e.sample));`

// open opens a tab that is not signed in, whose API key has the scopes.
func (s *system) open(scopes ...apikey.Scope) *tab {
	s.Helper()
	b := &tab{TB: s.TB, system: s}
	b.key, _ = s.key("Mara", scopes...)
	ctx, cancel := chromedp.NewContext(chromium, chromedp.WithNewBrowserContext())
	s.Cleanup(cancel)
	b.in = func(call func(context.Context) error) error {
		limited, cancel := context.WithTimeout(ctx, actionTimeout)
		defer cancel()
		return call(limited)
	}
	s.Must(chromedp.Listen(ctx, b.observe)) // opens the tab, which lives as long as ctx
	call(b, runtime.Enable, cdp.Empty{})
	call(b, log.Enable, cdp.Empty{})
	// Keys reach the page although other tabs of the browser are in front of it.
	call(b, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true})
	call(b, network.Enable, network.EnableParams{})
	call(b, runtime.AddBinding, runtime.AddBindingParams{Name: "reportViolation"})
	call(b, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: reportViolations})
	b.size(1280, 800)
	s.Cleanup(b.check)
	return b
}

// signedIn opens a tab that is signed in.
func (s *system) signedIn(scopes ...apikey.Scope) *tab {
	s.Helper()
	b := s.open(scopes...)
	b.visit("/sign-in")
	b.signIn()
	b.await("the page Now is open", `document.querySelector("h1")?.textContent === "Now"`)
	return b
}

// signIn fills in the form of the sign-in.
func (b *tab) signIn() {
	b.Helper()
	b.fill("#key", b.key)
	b.click(".door form button")
}

// observe notes what a page must not do.
func (b *tab) observe(event any) {
	switch e := event.(type) {
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning || e.Type == runtime.ConsoleAPICalledTypeAssert {
			b.note("console: %s", arguments(e.Args))
		}
	case *runtime.EventExceptionThrown:
		b.note("exception: %s %s", e.ExceptionDetails.Text, arguments([]*runtime.RemoteObject{e.ExceptionDetails.Exception}))
	case *runtime.EventBindingCalled:
		b.note("policy violation: %s", e.Payload)
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			b.note("%s: %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL)
		}
	case *network.EventRequestWillBeSent:
		if url := e.Request.URL; !strings.HasPrefix(url, b.system.url+"/") && !strings.HasPrefix(url, "data:") && !strings.HasPrefix(url, "blob:"+b.system.url+"/") {
			b.note("request to another origin: %s", url)
		}
	case *page.EventJavascriptDialogOpening:
		b.note("dialog: %s", e.Message)
	}
}

func arguments(args []*runtime.RemoteObject) string {
	var texts []string
	for _, a := range args {
		if a != nil {
			texts = append(texts, string(a.Value)+a.Description)
		}
	}
	return strings.Join(texts, " ")
}

func (b *tab) note(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.problems = append(b.problems, fmt.Sprintf(format, args...))
}

// expectProblem allows problems that match a pattern, such as the status of a page that is
// refused on purpose.
func (b *tab) expectProblem(pattern string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expected = append(b.expected, regexp.MustCompile(pattern))
}

// expectStatus allows responses with an HTTP status.
func (b *tab) expectStatus(status int) {
	b.expectProblem(fmt.Sprintf("the server responded with a status of %d ", status))
}

// check fails the test for each problem that was not expected.
func (b *tab) check() {
	b.Helper()
	for _, problem := range b.unexpected() {
		b.Error(problem)
	}
	if b.Failed() {
		b.describe()
	}
}

// unexpected returns the problems so far that were not expected.
func (b *tab) unexpected() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(b.problems), func(problem string) bool {
		return slices.ContainsFunc(b.expected, func(p *regexp.Regexp) bool { return p.MatchString(problem) })
	})
}

// call sends a command of Chromium's protocol.
func call[P, R any](b *tab, command cdp.Command[P, R], params P) (result R) {
	b.Helper()
	fixture.Must(b, b.in(func(ctx context.Context) (err error) {
		result, err = chromedp.Call(ctx, command, params)
		return err
	}))
	return result
}

// do carries out actions.
func (b *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	b.Helper()
	fixture.Must(b, b.in(func(ctx context.Context) error { return chromedp.Do(ctx, actions...) }))
}

// visit opens a page and waits until it has been loaded.
func (b *tab) visit(path string) {
	b.Helper()
	b.do(chromedp.Navigate(b.system.url + path))
}

// value returns the value of an expression in the page.
func value[T any](b *tab, expression string) T {
	b.Helper()
	v, err := evaluate[T](b, expression)
	fixture.Must(b, err)
	return v
}

// run runs statements in the page.
func (b *tab) run(statements string) {
	b.Helper()
	value[bool](b, "{"+statements+"}; true")
}

func evaluate[T any](b *tab, expression string) (v T, err error) {
	err = b.in(func(ctx context.Context) (err error) {
		v, err = chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
		return err
	})
	return v, err
}

// await waits until an expression holds in a page that has been loaded with its scripts.
// While the tab goes to another page, it does not.
func (b *tab) await(what, expression string) {
	b.Helper()
	fixture.Eventually(b, what, func() bool {
		holds, err := evaluate[bool](b, `document.readyState === "complete" && Boolean(`+expression+")")
		return err == nil && holds
	})
}

// describe logs where a failed test ended.
func (b *tab) describe() {
	text, err := evaluate[string](b, `location.href + "\n" + document.body.innerText`)
	b.Logf("the page at the end of the test: %s (%v)", text, err)
}

// awaitText waits until an element contains a text.
func (b *tab) awaitText(selector, text string) {
	b.Helper()
	b.await(fmt.Sprintf("%s contains %q", selector, text), element(selector)+`?.innerText.includes(`+quote(text)+`)`)
}

func element(selector string) string { return "document.querySelector(" + quote(selector) + ")" }

// quote returns a JavaScript literal.
func quote(text string) string {
	literal, _ := json.Marshal(text) // cannot fail for a string
	return string(literal)
}

// text returns the visible text of an element.
func (b *tab) text(selector string) string {
	b.Helper()
	return value[string](b, element(selector)+".innerText")
}

// has reports whether the page has an element.
func (b *tab) has(selector string) bool {
	b.Helper()
	return value[bool](b, element(selector)+" !== null")
}

// click clicks an element that a person could click: it is visible, and nothing covers it.
// If it leads to another page, the caller waits for something on that page.
func (b *tab) click(selector string) {
	b.Helper()
	b.await("a person can click "+selector, fmt.Sprintf(`(() => {
		const e = %s;
		if (!e) return false;
		e.scrollIntoView({block: "center"});
		const box = e.getClientRects()[0]; // the first line of a link
		const top = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
		if (!e.contains(top)) return false;
		e.click();
		return true;
	})()`, element(selector)))
}

// mouse clicks an element with the mouse, which works without JavaScript. The page must not
// move meanwhile.
func (b *tab) mouse(selector string) {
	b.Helper()
	b.do(chromedp.Click(chromedp.CSS(selector)))
}

// fill replaces the content of a field.
func (b *tab) fill(selector, text string) {
	b.Helper()
	b.await(selector+" is there", element(selector))
	b.run(element(selector) + ".focus(); " + element(selector) + ".select()")
	b.insert(text)
}

// insert inserts text where the focus is.
func (b *tab) insert(text string) {
	b.Helper()
	call(b, input.InsertText, input.InsertTextParams{Text: text})
}

// press presses keys, such as kb.Tab.
func (b *tab) press(keys ...string) {
	b.Helper()
	for _, r := range strings.Join(keys, "") {
		for _, event := range keyEvents(r) {
			call(b, input.DispatchKeyEvent, *event)
		}
	}
}

// keyEvents returns the events of a key. Its text belongs to the first, so that a page that
// handles the key prevents the text, as with a keyboard.
func keyEvents(r rune) []*input.DispatchKeyEventParams {
	events := kb.Encode(r)
	if len(events) == 3 && events[1].Type == kb.KeyChar {
		events[0].Type, events[0].Text = input.DispatchKeyEventTypeKeyDown, events[1].Text
		events = slices.Delete(events, 1, 2)
	}
	return events
}

// tabTo presses the Tab key until an expression about the focused element e holds.
func (b *tab) tabTo(what, expression string) {
	b.Helper()
	const most = 100
	for range most {
		if value[bool](b, `((e) => Boolean(`+expression+`))(document.activeElement)`) {
			return
		}
		b.press(kb.Tab)
	}
	b.Fatalf("%d presses of the Tab key do not reach %s", most, what)
}

// size sets the size of the page in CSS pixels.
func (b *tab) size(width, height int64) {
	b.Helper()
	b.do(chromedp.EmulateViewport(width, height))
}

// prefer sets the colour scheme that the page prefers, without animations.
func (b *tab) prefer(scheme string) {
	b.Helper()
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
	}})
}
