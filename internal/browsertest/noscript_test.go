//go:build browser

package browsertest

import (
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp/kb"

	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/faceki/simulator"
)

func TestWithoutJavaScript_PagesAndActionsWork(t *testing.T) {
	s := newSystem(t, simulator.Script{})
	s.importRows("spring", numbered("A", 1, 3)...)
	b := s.open(apikey.Scopes()...)
	call(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	b.visit("/batch?name=spring")
	b.mouse("#key")
	b.insert(b.key)
	b.press(kb.Enter)
	b.awaitText("h1", "spring")

	b.mouse(`form[action="/batch/pause"] button`)
	b.awaitText("[role=status].done", "The batch is paused.")
	b.awaitText("#t-status + .big", "paused")
	b.mouse(`form[action="/batch/resume"] button`)
	b.awaitText("[role=status].done", "The batch continues.")
	b.awaitText("#t-status + .big", "running")

	for _, v := range views() {
		if strings.Contains(v.Path, "?") || v.Press != "" || v.Path == noPage {
			continue
		}
		b.visit(v.Path)
		if h1 := b.text("h1"); h1 == "" {
			t.Errorf("%s has no heading", v.Path)
		}
	}
	b.visit("/")
	b.awaitText("#live", "As of ")
	b.awaitText(".banner", "No worker is running")
}
