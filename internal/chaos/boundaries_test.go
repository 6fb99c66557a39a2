package main

import (
	"strings"
	"testing"
	"time"

	"github.com/kyclink/kyclink/tasks"
)

func TestViolations_AreFoundInCallbacksIntakeAndAPI(t *testing.T) {
	valid := func() evidence {
		e := validEvidence()
		e.generator.callbackURL = "http://127.0.0.1:1/hooks"
		for id := range e.records { // find a seed with which the request has a callback URL
			for e.generator.request(id).CallbackURL == "" {
				e.generator.seed++
			}
		}
		event := e.events[0]
		e.received = map[string]time.Time{event.ID: event.at}
		e.entries = map[string]intakeEntry{"1-0": {event.Data.ApplicationID, event.at}, "2-0": {"", event.at}}
		e.rejected = map[string]bool{"2-0": true}
		e.apiLinks = []apiLink{{tasks.Link{ApplicationID: event.Data.ApplicationID, Generation: 1, URL: event.Data.URL}, event.at}}
		return e
	}
	violations := func(e evidence) []string {
		return append(append(e.checkCallbacks(), e.checkIntake()...), e.checkAPILinks()...)
	}
	if found := violations(valid()); len(found) > 0 {
		t.Fatalf("valid evidence: got violations %q", found)
	}
	for want, change := range map[string]func(*evidence){
		"was never received by its callback URL": func(e *evidence) { e.received = nil },
		"was delivered, but it does not exist": func(e *evidence) {
			e.received["another"] = e.events[0].at
		},
		`intake entry 1-0 for "p1-1" was neither`: func(e *evidence) {
			e.entries["1-0"] = intakeEntry{"p1-1", time.Now()}
			e.records = nil
			e.apiLinks = nil
		},
		`intake entry 2-0 for "" was neither`:                 func(e *evidence) { e.rejected = nil },
		"generation 1, that is not recorded":                  func(e *evidence) { e.apiLinks[0].URL += "x" },
		"a link for p1-1, generation 2, that is not recorded": func(e *evidence) { e.apiLinks[0].Generation = 2 },
	} {
		e := valid()
		change(&e)
		if found := strings.Join(violations(e), "\n"); !strings.Contains(found, want) {
			t.Errorf("got violations %q, want one that contains %q", found, want)
		}
	}
}
