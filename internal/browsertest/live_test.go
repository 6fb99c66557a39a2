//go:build browser

package browsertest

import (
	"testing"

	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/tasks"
)

// mark marks a page. The mark is gone after the page was loaded once more.
const mark = `window.marked = true`

// stays fails the test if the page that was marked has been loaded once more.
func (b *tab) stays() {
	b.Helper()
	if !value[bool](b, `window.marked === true`) {
		b.Error("the page was loaded once more instead of being updated")
	}
}

func TestNow_NamesAnOutageAndItsEnd(t *testing.T) {
	s := newSystem(t, simulator.Script{})
	s.worker("FACEKI_RATE=20/s")
	s.enqueue(tasks.Request{ApplicationID: "A-0"})
	s.await("A-0", tasks.Created) // the worker has an access token
	b := s.signedIn(apikey.Read)
	b.run(mark)
	b.awaitText(".banner", "Nothing waits")

	s.script(simulator.Script{Outage: &simulator.Fault{Name: "http_503"}})
	s.importRows("spring", numbered("A", 1, 60)...)
	b.awaitText(".banner[data-state=waiting]", "HTTP 503")
	b.awaitText(".banner .verdict", "Clears by itself")
	b.await("the gate is closed", `["closed", "probing"].includes(document.querySelector("#t-gate + .big .pill").dataset.state)`)

	s.script(simulator.Script{})
	b.awaitText(".banner", "Nothing waits: every accepted request has ended")
	b.await("the gate is open", `["open", "ramping"].includes(document.querySelector("#t-gate + .big .pill").dataset.state)`)
	b.stays()
}

func TestNow_SaysThatTheConnectionIsLost(t *testing.T) {
	s := newSystem(t, simulator.Script{})
	b := s.signedIn(apikey.Read)
	b.await("the page is live", `document.querySelector("#live[data-live=on]")`)
	b.expectProblem("net::ERR_|htmx:sse:error")
	s.serve.kill()
	b.awaitText("#live", "Not live")
}

// Without Redis the connection stays, but brings no update.
func TestNow_SaysThatNoUpdateComes(t *testing.T) {
	t.Parallel()
	own := redistest.Start(t, "--appendonly", "yes")
	s := startSystem(t, fixture.NewAccountOn(t, own), simulator.New(simulator.Config{}), nil, "KYCLINK_REDIS_URL="+own.URL)
	s.mayLog = "Redis does not accept writes"
	b := s.signedIn(apikey.Read)
	b.await("the page is live", `document.querySelector("#live[data-live=on]")`)
	b.run(mark)
	own.Stop()
	b.awaitText("#live[data-live=off]", "Not live: no update has come for 5 seconds")
	own.Restart(t)
	b.awaitText("#live[data-live=on]", "Live")
	b.stays()
}

func TestBatch_ShowsItsProgress(t *testing.T) {
	s := newSystem(t, simulator.Script{})
	s.importRows("spring", numbered("A", 1, 100)...)
	b := s.signedIn(apikey.Read, apikey.Operate)
	b.visit("/batch?name=spring")
	b.run(mark)
	b.awaitText("#t-done + .big", "0 %")

	s.worker("FACEKI_RATE=40/s")
	b.awaitText("#t-done + .big", "100 %")
	b.awaitText("#t-status + .big", "done")
	b.awaitText(".legend li[data-state=created]", "100")
	b.stays()
}

func TestBatch_IsPausedResumedAndCancelled(t *testing.T) {
	s := newSystem(t, simulator.Script{Latency: 0})
	s.importRows("spring", numbered("A", 1, 50)...)
	b := s.signedIn(apikey.Read, apikey.Operate)
	b.visit("/batch?name=spring")
	b.click(`form[action="/batch/pause"] button`)
	b.awaitText("[role=status].done", "The batch is paused.")
	b.click(`form[action="/batch/resume"] button`)
	b.awaitText("[role=status].done", "The batch continues.")
	b.click(".confirm summary")
	b.fill(`form[action="/batch/cancel"] input[name=confirm]`, "spring")
	b.click(`form[action="/batch/cancel"] button`)
	b.awaitText("[role=status].done", "The batch was cancelled.")
	b.awaitText(".legend li[data-state=cancelled]", "50")
}

func TestRequest_IsRetriedWhenHeld(t *testing.T) {
	s := newSystem(t, simulator.Script{Rules: []simulator.Rule{{Match: "held-*", Fault: simulator.Fault{Name: "no_url"}, Times: 1}}})
	s.worker()
	s.enqueue(tasks.Request{ApplicationID: "held-1"})
	s.await("held-1", tasks.Held)
	b := s.signedIn(apikey.Read, apikey.Operate)
	b.visit("/requests?status=held")
	b.click("tbody a.id")
	b.awaitText("h1", "held-1")
	b.click(`form[action="/request/retry"] button`)
	b.awaitText("[role=status].done", "The request is retried.")
	s.await("held-1", tasks.Created)
	b.visit("/request?id=held-1")
	b.click(`form[action="/request/reveal"] button`)
	b.awaitText(".secret", simulator.LinkPrefix)
}
