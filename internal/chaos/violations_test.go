package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

// validEvidence returns evidence without violations: one request, whose first call got no
// answer and whose second call made the link.
func validEvidence() evidence {
	g := generator{seed: 7, began: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	const id = "p1-1"
	req, end := g.request(id), g.began.Add(time.Minute)
	link := func(n int) simulator.Link {
		link := fmt.Sprintf("00000000-0000-4000-8000-%012d", n)
		return simulator.Link{LinkID: link, URL: simulator.LinkPrefix + link}
	}
	r := request.Record{
		ApplicationID: id, State: request.Created, Lane: request.Interactive, Generation: 1, Run: 1, Attempts: 2, PossibleDuplicates: 1, AcceptedAt: g.began,
		Content: request.Content{RedirectURL: req.RedirectURL, ExpiryMinutes: req.ExpiryMinutes, DocumentOptional: req.DocumentOptional,
			WorkflowID: req.WorkflowID, NotAfter: req.NotAfter, Metadata: req.Metadata},
		Outcome: request.Outcome{Run: 1, Status: request.Created, LinkID: link(2).LinkID, URL: link(2).URL},
	}
	event := tasks.Event{ID: r.EventID(account).String(), Type: tasks.EventCreated, Timestamp: end, Data: tasks.EventData{
		ApplicationID: id, Generation: 1, Run: 1, LinkID: r.Outcome.LinkID, URL: r.Outcome.URL, Attempts: 2, PossibleDuplicates: 1,
		ExpiresAt: end.Add(time.Duration(g.call(id).ExpiryTime) * time.Minute), Metadata: req.Metadata,
	}}
	return evidence{
		generator: g, requested: map[string]history{id: {acknowledged: 1, requested: 1}}, records: map[string][]request.Record{id: {r}}, events: []timedEvent{{at: end, Event: event}},
		issued:      map[string]simulator.Application{id: {ApplicationID: id, Calls: 2, Links: []simulator.Link{link(1), link(2)}}},
		calls:       []simulator.Call{{Number: 1, At: end.Add(-2 * time.Second), ApplicationID: id}, {Number: 2, At: end.Add(-time.Second), ApplicationID: id}},
		batches:     map[int]batchCounts{0: {"", map[request.State]int{request.Created: 1}}},
		limit:       limit{1, 2},
		disruptions: &disruptions{},
	}
}

// An attempt that was granted while Redis' clock was wrong has an event with a wrong time,
// also if it ends long after the clock was right again.
func TestViolations_AllowForAWrongClockAtTheGrant(t *testing.T) {
	const offset = -5 * time.Minute
	slow := func(at func(evidence) time.Time) string {
		e := validEvidence()
		e.disruptions.addClockShift(period{from: at(e).Add(-time.Second), to: at(e), offset: offset})
		e.events[0].at = e.events[0].at.Add(offset)
		return strings.Join(e.checkNoCallAfterLink(), "\n")
	}
	if found := slow(func(e evidence) time.Time { return e.calls[1].At }); found != "" {
		t.Errorf("a clock that was wrong at the grant: got %q", found)
	}
	if found := slow(func(e evidence) time.Time { return e.calls[0].At.Add(-time.Minute) }); !strings.Contains(found, "after its link was recorded") {
		t.Errorf("a clock that was wrong before the grant: got %q, want a call after its link", found)
	}
}

func TestViolations_AreFoundInChangedEvidence(t *testing.T) {
	const id = "p1-1"
	if found := validEvidence().violations(); len(found) > 0 {
		t.Fatalf("valid evidence: got violations %q", found)
	}
	changeRecord := func(e *evidence, do func(*request.Record)) { do(&e.records[id][0]) }
	for _, tt := range []struct {
		name   string
		change func(*evidence)
		want   string
	}{
		{"lost request", func(e *evidence) { delete(e.records, id); e.events = nil }, "acknowledged but is lost"},
		{"lost generation", func(e *evidence) { e.requested[id] = history{acknowledged: 2, requested: 2} }, "generation 2 of p1-1 was acknowledged but is lost"},
		{"unknown request", func(e *evidence) { delete(e.requested, id) }, "was never requested"},
		{"no end", func(e *evidence) { e.events = nil }, "has 0 ends"},
		{"two ends", func(e *evidence) { e.events = append(e.events, e.events[0]) }, "has 2 ends"},
		{"end of an unknown run", func(e *evidence) { e.events = append(e.events, e.events[0]); e.events[1].Data.Run = 2 }, "no such run"},
		{"event id of another event", func(e *evidence) { e.events[0].ID = "another" }, "has the id another"},
		{"event type", func(e *evidence) { e.events[0].Type = tasks.EventFailed }, "its record is created"},
		{"counts in the event", func(e *evidence) { e.events[0].Data.Attempts++ }, "its event has 3 attempts"},
		{"batch in the event", func(e *evidence) { e.events[0].Data.Batch = "x" }, `has batch "x"`},
		{"metadata in the event", func(e *evidence) { e.events[0].Data.Metadata = []byte(`{"x":1}`) }, "its event has metadata"},
		{"lifetime of the link", func(e *evidence) { e.events[0].Data.ExpiresAt = e.generator.began }, "its link expires after"},
		{"unrequested cancellation", func(e *evidence) {
			e.events[0].Type = tasks.EventCancelled
			changeRecord(e, func(r *request.Record) { r.State = request.Cancelled })
		}, "without a request to cancel it"},
		{"failure with too few attempts", func(e *evidence) {
			e.events[0].Type, e.events[0].Data.Reason = tasks.EventFailed, "timeout"
			changeRecord(e, func(r *request.Record) { r.State, r.Charged = request.Failed, 7 })
		}, "with 7 charged attempts"},
		{"content of the record", func(e *evidence) { changeRecord(e, func(r *request.Record) { r.Content.ExpiryMinutes += 5 }) }, "the record of p1-1, generation 1, contains"},
		{"link of another request", func(e *evidence) { e.issued[id] = simulator.Application{Calls: 2} }, "was not issued for it"},
		{"possible duplicate not counted", func(e *evidence) {
			changeRecord(e, func(r *request.Record) { r.PossibleDuplicates = 0 })
			e.events[0].Data.PossibleDuplicates = 0
		}, "0 counted as possible duplicates"},
		{"call not counted", func(e *evidence) {
			changeRecord(e, func(r *request.Record) { r.Attempts = 1 })
		}, "had 2 calls, but counts 1 attempts"},
		{"call after the link", func(e *evidence) {
			e.calls = append(e.calls, simulator.Call{At: e.events[0].at.Add(time.Second), ApplicationID: id})
		}, "arrived 1s after"},
		{"batch counter", func(e *evidence) { e.batches[0].counts[request.Waiting] = 1 }, "counts 1 waiting requests, but has 0"},
		{"rate", func(e *evidence) {
			for range 3 {
				e.calls = append(e.calls, simulator.Call{At: e.calls[0].At, ApplicationID: id})
			}
		}, "calls more than 1/s"},
		{"remaining work", func(e *evidence) { e.leftovers = []string{"a task"} }, "a task"},
		{"problem during the run", func(e *evidence) { e.problems = []string{"an unexpected call"} }, "an unexpected call"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := validEvidence()
			tt.change(&e)
			if found := strings.Join(e.violations(), "\n"); !strings.Contains(found, tt.want) {
				t.Errorf("got violations %q, want one that contains %q", found, tt.want)
			}
		})
	}
}

func TestDisruptions_ExcuseOnlyViolationsOfTheirTime(t *testing.T) {
	const id = "p1-1"
	for name, tt := range map[string]struct {
		lost   time.Duration // start of a loss of one second, since the first call
		change func(*evidence)
		want   bool
	}{
		"uncounted call during a loss":   {0, func(e *evidence) { e.records[id][0].Attempts = 1; e.events[0].Data.Attempts = 1 }, false},
		"uncounted call at another time": {time.Hour, func(e *evidence) { e.records[id][0].Attempts = 1; e.events[0].Data.Attempts = 1 }, true},
		"lost request during a loss": {0, func(e *evidence) {
			p := e.requested[id]
			p.acknowledgedAt = e.calls[0].At
			e.requested[id] = p
			delete(e.records, id)
			e.events, e.batches = nil, nil
		}, false},
		"lost request at another time": {time.Hour, func(e *evidence) {
			p := e.requested[id]
			p.acknowledgedAt = e.calls[0].At
			e.requested[id] = p
			delete(e.records, id)
			e.events, e.batches = nil, nil
		}, true},
		"additional burst during a loss": {0, func(e *evidence) {
			e.calls = append(e.calls, e.calls[0], e.calls[0])
			e.records[id][0].Attempts, e.events[0].Data.Attempts = 4, 4
		}, false},
		"additional burst at another time": {time.Hour, func(e *evidence) {
			e.calls = append(e.calls, e.calls[0], e.calls[0])
			e.records[id][0].Attempts, e.events[0].Data.Attempts = 4, 4
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			e := validEvidence()
			from := e.calls[0].At.Add(tt.lost)
			e.disruptions.addLoss(period{from: from, to: from.Add(time.Second)})
			tt.change(&e)
			if found := e.violations(); (len(found) > 0) != tt.want {
				t.Errorf("got violations %q, want any: %v", found, tt.want)
			}
		})
	}
}
