package main

import (
	"strings"
	"testing"
	"time"

	"github.com/kyclink/kyclink/tasks"
)

// TestViolations_AtTheEdges doctors what is known of callbacks, the intake and the API.
func TestViolations_AtTheEdges(t *testing.T) {
	flawless := func() evidence {
		e := flawless()
		e.people.hook = "http://127.0.0.1:1/hooks"
		for id := range e.records { // one that wants a callback, whatever the others want
			for e.people.request(id).CallbackURL == "" {
				e.people.seed++
			}
		}
		event := e.events[0]
		e.taken = map[string]time.Time{event.ID: event.at}
		e.entries = map[string]put{"1-0": {event.Data.ApplicationID, event.at}, "2-0": {"", event.at}}
		e.rejected = map[string]bool{"2-0": true}
		e.promised = []promise{{tasks.Link{ApplicationID: event.Data.ApplicationID, Generation: 1, URL: event.Data.URL}, event.at}}
		return e
	}
	edges := func(e evidence) []string {
		return append(append(e.delivered(), e.settled()...), e.honoured()...)
	}
	if found := edges(flawless()); len(found) > 0 {
		t.Fatalf("flawless evidence: %q", found)
	}
	for want, doctor := range map[string]func(*evidence){
		"was never taken by its receiver": func(e *evidence) { e.taken = nil },
		"was delivered, and there is none": func(e *evidence) {
			e.taken["another"] = e.events[0].at
		},
		`entry 1-0 for "p1-1" was neither`:   func(e *evidence) { e.entries["1-0"] = put{"p1-1", time.Now()}; e.records = nil; e.promised = nil },
		`entry 2-0 for "" was neither`:       func(e *evidence) { e.rejected = nil },
		"that its record does not have":      func(e *evidence) { e.promised[0].URL += "x" },
		"a link of p1-1, generation 2, that": func(e *evidence) { e.promised[0].Generation = 2 },
	} {
		e := flawless()
		doctor(&e)
		if found := strings.Join(edges(e), "\n"); !strings.Contains(found, want) {
			t.Errorf("want %q, found %q", want, found)
		}
	}
}
