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

// flawless is evidence that nothing is wrong with: one request, whose first
// call's answer was lost and whose second made the link.
func flawless() evidence {
	who := people{seed: 7, began: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	const id = "p1-1"
	req, end := who.request(id), who.began.Add(time.Minute)
	link := func(n int) simulator.Link {
		link := fmt.Sprintf("00000000-0000-4000-8000-%012d", n)
		return simulator.Link{LinkID: link, URL: simulator.LinkPrefix + link}
	}
	r := request.Record{
		ApplicationID: id, State: request.Created, Lane: request.Interactive, Generation: 1, Run: 1, Attempts: 2, PossibleDuplicates: 1, AcceptedAt: who.began,
		Content: request.Content{RedirectURL: req.RedirectURL, ExpiryMinutes: req.ExpiryMinutes, DocumentOptional: req.DocumentOptional,
			WorkflowID: req.WorkflowID, NotAfter: req.NotAfter, Metadata: req.Metadata},
		Outcome: request.Outcome{Run: 1, Status: request.Created, LinkID: link(2).LinkID, URL: link(2).URL},
	}
	event := tasks.Event{ID: r.EventID(account).String(), Type: tasks.EventCreated, Timestamp: end, Data: tasks.EventData{
		ApplicationID: id, Generation: 1, Run: 1, LinkID: r.Outcome.LinkID, URL: r.Outcome.URL, Attempts: 2, PossibleDuplicates: 1,
		ExpiresAt: end.Add(time.Duration(who.call(id).ExpiryTime) * time.Minute), Metadata: req.Metadata,
	}}
	return evidence{
		people: who, asked: map[string]person{id: {acknowledged: 1, asked: 1}}, records: map[string][]request.Record{id: {r}}, events: []entry{{at: end, Event: event}},
		issued:  map[string]simulator.Application{id: {ApplicationID: id, Calls: 2, Links: []simulator.Link{link(1), link(2)}}},
		calls:   []simulator.Call{{Number: 1, At: end.Add(-2 * time.Second), ApplicationID: id}, {Number: 2, At: end.Add(-time.Second), ApplicationID: id}},
		batches: map[int]batchCounts{0: {"", map[request.State]int{request.Created: 1}}},
		limit:   limit{1, 2},
		upset:   &upsets{},
	}
}

// TestViolations doctors the evidence in every way that the oracle is to notice.
func TestViolations(t *testing.T) {
	const id = "p1-1"
	if found := flawless().violations(); len(found) > 0 {
		t.Fatalf("flawless evidence: %q", found)
	}
	change := func(e *evidence, do func(*request.Record)) { do(&e.records[id][0]) }
	for _, tt := range []struct {
		name   string
		doctor func(*evidence)
		want   string
	}{
		{"lost", func(e *evidence) { delete(e.records, id); e.events = nil }, "acknowledged and is lost"},
		{"lost generation", func(e *evidence) { e.asked[id] = person{acknowledged: 2, asked: 2} }, "generation 2 of p1-1 was acknowledged and is lost"},
		{"stranger", func(e *evidence) { delete(e.asked, id) }, "nobody asked for it"},
		{"no end", func(e *evidence) { e.events = nil }, "has 0 ends"},
		{"two ends", func(e *evidence) { e.events = append(e.events, e.events[0]) }, "has 2 ends"},
		{"end of no run", func(e *evidence) { e.events = append(e.events, e.events[0]); e.events[1].Data.Run = 2 }, "no such run"},
		{"event id", func(e *evidence) { e.events[0].ID = "another" }, "has the id another"},
		{"type", func(e *evidence) { e.events[0].Type = tasks.EventFailed }, "its record created"},
		{"numbers", func(e *evidence) { e.events[0].Data.Attempts++ }, "its event says 3 attempts"},
		{"batch", func(e *evidence) { e.events[0].Data.Batch = "x" }, `of batch "x"`},
		{"metadata", func(e *evidence) { e.events[0].Data.Metadata = []byte(`{"x":1}`) }, "carries the metadata"},
		{"life", func(e *evidence) { e.events[0].Data.ExpiresAt = e.people.began }, "its link lives for"},
		{"cancelled by nobody", func(e *evidence) {
			e.events[0].Type = tasks.EventCancelled
			change(e, func(r *request.Record) { r.State = request.Cancelled })
		}, "nobody asked for that"},
		{"failed too soon", func(e *evidence) {
			e.events[0].Type, e.events[0].Data.Reason = tasks.EventFailed, "timeout"
			change(e, func(r *request.Record) { r.State, r.Charged = request.Failed, 7 })
		}, "with 7 spent attempts"},
		{"content", func(e *evidence) { change(e, func(r *request.Record) { r.Content.ExpiryMinutes += 5 }) }, "the record of p1-1, generation 1, says"},
		{"foreign link", func(e *evidence) { e.issued[id] = simulator.Application{Calls: 2} }, "never issued for it"},
		{"doubt dropped", func(e *evidence) {
			change(e, func(r *request.Record) { r.PossibleDuplicates = 0 })
			e.events[0].Data.PossibleDuplicates = 0
		}, "only 0 possible duplicates"},
		{"call not counted", func(e *evidence) {
			change(e, func(r *request.Record) { r.Attempts = 1 })
		}, "was called 2 times, and counts 1 attempts"},
		{"called again", func(e *evidence) {
			e.calls = append(e.calls, simulator.Call{At: e.events[0].at.Add(time.Second), ApplicationID: id})
		}, "called again 1s after"},
		{"counter", func(e *evidence) { e.batches[0].counts[request.Waiting] = 1 }, "counts 1 waiting requests, and has 0"},
		{"rate", func(e *evidence) {
			for range 3 {
				e.calls = append(e.calls, simulator.Call{At: e.calls[0].At, ApplicationID: id})
			}
		}, "calls more than 1/s"},
		{"left over", func(e *evidence) { e.left = []string{"a task"} }, "a task"},
		{"noticed", func(e *evidence) { e.noticed = []string{"a wrong call"} }, "a wrong call"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := flawless()
			tt.doctor(&e)
			if found := strings.Join(e.violations(), "\n"); !strings.Contains(found, tt.want) {
				t.Errorf("got %q, want something with %q", found, tt.want)
			}
		})
	}
}

// What Redis lost is excused, and nothing else.
func TestUpsets_Excuse(t *testing.T) {
	const id = "p1-1"
	for name, tt := range map[string]struct {
		lost   time.Duration // after the first call, for a second
		doctor func(*evidence)
		wrong  bool
	}{
		"a call of that time is not counted":    {0, func(e *evidence) { e.records[id][0].Attempts = 1; e.events[0].Data.Attempts = 1 }, false},
		"a call of another time is not counted": {time.Hour, func(e *evidence) { e.records[id][0].Attempts = 1; e.events[0].Data.Attempts = 1 }, true},
		"a request of that time is lost": {0, func(e *evidence) {
			p := e.asked[id]
			p.at = e.calls[0].At
			e.asked[id] = p
			delete(e.records, id)
			e.events, e.batches = nil, nil
		}, false},
		"a request of another time is lost": {time.Hour, func(e *evidence) {
			p := e.asked[id]
			p.at = e.calls[0].At
			e.asked[id] = p
			delete(e.records, id)
			e.events, e.batches = nil, nil
		}, true},
		"a burst more in that time": {0, func(e *evidence) {
			e.calls = append(e.calls, e.calls[0], e.calls[0])
			e.records[id][0].Attempts, e.events[0].Data.Attempts = 4, 4
		}, false},
		"a burst more in another time": {time.Hour, func(e *evidence) {
			e.calls = append(e.calls, e.calls[0], e.calls[0])
			e.records[id][0].Attempts, e.events[0].Data.Attempts = 4, 4
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			e := flawless()
			from := e.calls[0].At.Add(tt.lost)
			e.upset.lost(span{from: from, to: from.Add(time.Second)})
			tt.doctor(&e)
			if found := e.violations(); (len(found) > 0) != tt.wrong {
				t.Errorf("found %q", found)
			}
		})
	}
}
