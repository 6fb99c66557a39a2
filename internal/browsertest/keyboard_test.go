//go:build browser

package browsertest

import (
	"testing"

	"github.com/chromedp/chromedp/kb"

	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/tasks"
)

// visibleFocus holds for the focused element e if a person sees that it has the focus.
const visibleFocus = `(() => {
	const style = getComputedStyle(e), box = e.getBoundingClientRect();
	return style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2 && box.width > 0 && box.height > 0 &&
		box.bottom > 0 && box.right > 0 && box.top < innerHeight && box.left < innerWidth;
})()`

func TestKeyboard_ReachesEverythingOnNow(t *testing.T) {
	s := newSystem(t, simulator.Script{})
	b := s.signedIn(apikey.Read, apikey.Operate)
	b.visit("/")
	b.press(kb.Tab)
	if !value[bool](b, `document.activeElement.matches(".skip") && document.activeElement.getBoundingClientRect().top >= 0`) {
		t.Errorf("the first Tab focuses %s, want the visible link to the content", value[string](b, `document.activeElement.outerHTML`))
	}
	for _, stop := range []string{".brand", "#find", `nav a[href="/requests"]`, `nav a[href="/audit"]`, ".me summary", ".scroll"} {
		b.tabTo(stop, `e.matches(`+quote(stop)+`)`)
		if !value[bool](b, `((e) => `+visibleFocus+`)(document.activeElement)`) {
			t.Errorf("the focus on %s cannot be seen", stop)
		}
	}
	b.visit("/")
	b.press(kb.Tab, kb.Enter)
	b.await("the content has the focus", `document.activeElement.id === "main"`)
}

func TestKeyboard_Shortcuts(t *testing.T) {
	s := newSystem(t, simulator.Script{})
	s.enqueue(tasks.Request{ApplicationID: "A-1001"})
	b := s.signedIn(apikey.Read)
	b.visit("/")
	b.press("?")
	b.await("the shortcuts are shown", `document.querySelector("dialog[open]")`)
	b.press(kb.Escape)
	b.await("the shortcuts are closed", `!document.querySelector("dialog[open]")`)
	b.press("/")
	b.await("the search has the focus", `document.activeElement.id === "find"`)
	b.press("A-10", kb.Enter)
	b.await("the request is found", `location.pathname === "/requests" && document.querySelector("tbody a.id")?.textContent === "A-1001"`)
	b.press("g", "b")
	b.await("the batches are open", `location.pathname === "/batches"`)
}

func TestKeyboard_RetriesARequest(t *testing.T) {
	s := newSystem(t, simulator.Script{Rules: []simulator.Rule{{Match: "bad-*", Fault: simulator.Fault{Name: "code_5002"}, Times: 1}}})
	s.worker()
	s.enqueue(tasks.Request{ApplicationID: "bad-1"})
	s.await("bad-1", tasks.Failed)
	b := s.open(apikey.Read, apikey.Operate)
	b.visit("/sign-in?next=/requests%3Fstatus%3Dfailed")
	b.await("the field of the key has the focus", `document.activeElement.id === "key"`)
	b.press(b.key, kb.Enter)
	b.awaitText("tbody", "bad-1")
	b.tabTo("the request", `e.matches("a.id")`)
	b.press(kb.Enter)
	b.awaitText("h1", "bad-1")
	b.tabTo("the button Retry", `e.tagName === "BUTTON" && e.textContent === "Retry"`)
	b.press(kb.Enter)
	b.awaitText("[role=status].done", "The request is retried.")
	s.await("bad-1", tasks.Created)
}
