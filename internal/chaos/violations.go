package main

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

// grace is the validity of a grant: a call may arrive this much later (promise 4).
const grace = 100 * time.Millisecond

// violations returns all violations of the promises.
func (e evidence) violations() []string {
	found := slices.Clone(e.problems)
	for _, check := range []func() []string{e.checkEnds, e.checkContents, e.checkLinks, e.checkNoCallAfterLink, e.checkCounters, e.checkRate, e.checkCallbacks, e.checkIntake, e.checkAPILinks} {
		found = append(found, check()...)
	}
	return append(found, e.leftovers...)
}

// runID identifies one run of one generation, which has exactly one end.
type runID struct {
	id              string
	generation, run int
}

// checkEnds checks that every run of every accepted request has exactly one end (promise 1).
func (e evidence) checkEnds() (found []string) {
	ends := map[runID][]timedEvent{}
	ids := map[string]runID{}
	for _, event := range e.events {
		if event.Type == tasks.EventHeld || event.Replay {
			continue
		}
		run := runID{event.Data.ApplicationID, event.Data.Generation, event.Data.Run}
		ends[run] = append(ends[run], event)
		if other, duplicate := ids[event.ID]; duplicate {
			found = append(found, fmt.Sprintf("event id %s is used by %v and by %v", event.ID, other, run))
		}
		ids[event.ID] = run
	}
	if !e.losesWrites {
		found = append(found, e.lostRequests()...)
	}
	for _, id := range sortedIDs(e.records) {
		if p, known := e.requested[id]; !known {
			found = append(found, fmt.Sprintf("%s has a record, but was never requested", id))
		} else if g := e.records[id][0].Generation; g > p.requested || g != len(e.records[id]) {
			found = append(found, fmt.Sprintf("%s has %d records, the latest of generation %d; the latest requested generation is %d", id, len(e.records[id]), g, p.requested))
		}
		for _, r := range e.records[id] {
			for n := 1; n <= r.Run; n++ {
				run := runID{id, r.Generation, n}
				found = append(found, e.checkEnd(r, n, ends[run])...)
				delete(ends, run)
			}
		}
	}
	for run, events := range ends {
		found = append(found, fmt.Sprintf("%v has %d ends, but there is no such run", run, len(events)))
	}
	return found
}

// lostRequests describes acknowledged requests that have no record.
func (e evidence) lostRequests() (found []string) {
	for _, id := range sortedIDs(e.requested) {
		if p := e.requested[id]; e.disruptions.lostAt(p.acknowledgedAt) || e.disruptions.lossesBetween(p.requestedAt, p.acknowledgedAt) > 0 {
			continue
		} else if len(e.records[id]) == 0 && p.acknowledged > 0 {
			found = append(found, fmt.Sprintf("%s was acknowledged but is lost", id))
		} else if len(e.records[id]) > 0 && e.records[id][0].Generation < p.acknowledged {
			found = append(found, fmt.Sprintf("generation %d of %s was acknowledged but is lost", p.acknowledged, id))
		}
	}
	return found
}

// checkEnd checks the ends of one run of a record.
func (e evidence) checkEnd(r request.Record, number int, ends []timedEvent) []string {
	run := runID{r.ApplicationID, r.Generation, number}
	if len(ends) != 1 {
		return []string{fmt.Sprintf("%v has %d ends; its record is %s after %d attempts, accepted at %s", run, len(ends), r.State, r.Attempts, r.AcceptedAt.Format(time.TimeOnly))}
	}
	var found []string
	add := func(format string, args ...any) {
		found = append(found, fmt.Sprintf("%v: ", run)+fmt.Sprintf(format, args...))
	}
	end, last := ends[0], number == r.Run
	thatRun := r
	thatRun.Run = number
	if want := thatRun.EventID(account).String(); end.ID != want {
		add("its event has the id %s instead of %s", end.ID, want)
	}
	if want := "link." + string(r.State); last && end.Type != want {
		add("its event is %s, but its record is %s", end.Type, r.State)
	}
	if !last && end.Type != tasks.EventFailed {
		add("it ended as %s, but another run followed", end.Type)
	}
	if last && (end.Data.Attempts != r.Attempts || end.Data.PossibleDuplicates != r.PossibleDuplicates) {
		add("its event has %d attempts and %d possible duplicates, but its record has %d and %d",
			end.Data.Attempts, end.Data.PossibleDuplicates, r.Attempts, r.PossibleDuplicates)
	}
	if last && (end.Data.URL != r.Outcome.URL || end.Data.LinkID != r.Outcome.LinkID) {
		add("its event and its record have different links")
	}
	if name := e.batches[r.Batch].name; end.Data.Batch != name {
		add("its event has batch %q, but its record has %q", end.Data.Batch, name)
	}
	if want := e.generator.request(r.ApplicationID).Metadata; !sameJSON(end.Data.Metadata, want) {
		add("its event has metadata %s instead of %s", end.Data.Metadata, want)
	}
	return append(found, e.checkReason(run, r, end)...)
}

// checkReason checks that an end is possible.
func (e evidence) checkReason(run runID, r request.Record, end timedEvent) []string {
	bad := strings.Contains(run.id, "-bad-")
	req := e.generator.request(run.id)
	why := ""
	switch {
	case end.Type == tasks.EventCreated && bad:
		why = "it has a link, although FaceKi refuses it"
	case end.Type == tasks.EventCreated:
		minutes := time.Duration(e.generator.call(run.id).ExpiryTime) * time.Minute
		if life := end.Data.ExpiresAt.Sub(end.Timestamp); life > minutes+time.Second || life < minutes-10*time.Minute {
			why = fmt.Sprintf("its link expires after %v instead of %v", life, minutes)
		}
	case end.Type == tasks.EventCancelled && !e.requested[run.id].cancelled:
		why = "it was cancelled without a request to cancel it"
	case end.Type != tasks.EventFailed:
	case end.Data.Reason == "not_after" && (req.NotAfter.IsZero() || end.at.Before(req.NotAfter) && !e.disruptions.clockShifted()):
		why = "it failed because of a not_after that had not passed"
	case end.Data.Reason == "not_after", end.Data.Reason == "invalid_request" && bad:
	case end.Data.Reason == "invalid_request" || run.run == r.Run && r.Charged < 8:
		why = fmt.Sprintf("it failed (%s) with %d charged attempts", end.Data.Reason, r.Charged)
	}
	if why == "" {
		return nil
	}
	return []string{fmt.Sprintf("%v: %s", run, why)}
}

func sameJSON(a, b json.RawMessage) bool {
	if len(a) == 0 || len(b) == 0 {
		return len(a) == len(b)
	}
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

// checkContents checks that records have the requested content.
func (e evidence) checkContents() (found []string) {
	for _, id := range sortedIDs(e.records) {
		if _, known := e.requested[id]; !known {
			continue
		}
		want := e.generator.request(id)
		for _, r := range e.records[id] {
			c := r.Content
			got := tasks.Request{ApplicationID: id, RedirectURL: c.RedirectURL, ExpiryMinutes: c.ExpiryMinutes, DocumentOptional: c.DocumentOptional,
				WorkflowID: c.WorkflowID, CallbackURL: c.CallbackURL, NotAfter: c.NotAfter, Metadata: c.Metadata}
			same := sameJSON(got.Metadata, want.Metadata) && got.NotAfter.Equal(want.NotAfter)
			a, b := got, want
			a.Metadata, b.Metadata, a.NotAfter, b.NotAfter = nil, nil, time.Time{}, time.Time{}
			if !same || text(a) != text(b) {
				found = append(found, fmt.Sprintf("the record of %s, generation %d, contains %s instead of %s", id, r.Generation, text(got), text(want)))
			}
		}
	}
	return found
}

// checkLinks checks that issued links are recorded or counted as possible duplicates, and
// that recorded links were issued (promise 3).
func (e evidence) checkLinks() (found []string) {
	for _, id := range sortedIDs(e.requested) {
		issued := map[string]bool{}
		for _, link := range e.issued[id].Links {
			issued[link.URL] = true
		}
		recorded, possible, attempts := e.recorded(id)
		for _, url := range recorded {
			if !issued[url] {
				found = append(found, fmt.Sprintf("%s has a link that was not issued for it", id))
			}
		}
		excused := e.excused(id)
		if notCounted := len(issued) - len(recorded) - possible; notCounted > excused && !e.losesWrites {
			found = append(found, fmt.Sprintf("%d links were issued for %s, but only %d are recorded and %d counted as possible duplicates",
				len(issued), id, len(recorded), possible))
		}
		if calls := e.issued[id].Calls; calls > attempts+excused && !e.losesWrites {
			found = append(found, fmt.Sprintf("%s had %d calls, but counts %d attempts", id, calls, attempts))
		}
	}
	for _, event := range e.events {
		issued := false
		for _, link := range e.issued[event.Data.ApplicationID].Links {
			issued = issued || link.URL == event.Data.URL && link.LinkID == event.Data.LinkID
		}
		if event.Type == tasks.EventCreated && !issued {
			found = append(found, fmt.Sprintf("the event of %s has a link that was not issued for it", event.Data.ApplicationID))
		}
	}
	return found
}

// recorded returns the distinct links in all generations of an id, and their counts of
// possible duplicates and attempts.
func (e evidence) recorded(id string) (urls []string, possible, attempts int) {
	for _, r := range e.records[id] {
		possible += r.PossibleDuplicates
		attempts += r.Attempts
		for _, o := range append(slices.Clone(r.Past), r.Outcome) {
			if o.URL != "" && !slices.Contains(urls, o.URL) {
				urls = append(urls, o.URL)
			}
		}
	}
	return urls, possible, attempts
}

// checkNoCallAfterLink checks that no call is sent for a generation whose link is recorded
// (promise 2). A call that was granted earlier may still arrive.
func (e evidence) checkNoCallAfterLink() (found []string) {
	made, wrong := map[string][]timedEvent{}, e.grantedByWrongClock()
	for _, event := range e.events {
		if event.Type == tasks.EventCreated && !event.inexact && !wrong[event.Data.ApplicationID] {
			made[event.Data.ApplicationID] = append(made[event.Data.ApplicationID], event)
		}
	}
	for _, call := range e.calls {
		if e.disruptions.lostAt(call.At) {
			continue // its generation or its link may have been lost by Redis
		}
		for _, event := range made[call.ApplicationID] {
			next := time.Unix(math.MaxInt32, 0)
			for _, r := range e.records[call.ApplicationID] {
				if r.Generation == event.Data.Generation+1 && e.disruptions.clockShiftedAt(r.AcceptedAt) {
					next = time.Time{} // the time when it was accepted is unknown
				} else if r.Generation == event.Data.Generation+1 {
					next = r.AcceptedAt
				}
			}
			if after := call.At.Sub(event.at); after > grace+e.delay && call.At.Before(next) {
				found = append(found, fmt.Sprintf("a call for %s arrived %v after its link was recorded", call.ApplicationID, after.Round(time.Millisecond)))
			}
		}
	}
	return found
}

// grantedByWrongClock returns the ids of calls that may have been granted while Redis' clock
// was wrong. The time of the event that follows such a call is that of the grant and what has
// passed since, by the worker's clock, however long the attempt takes.
func (e evidence) grantedByWrongClock() map[string]bool {
	ids := map[string]bool{}
	for _, call := range e.calls {
		if e.disruptions.clockShiftedDuring(call.At.Add(-grace-e.delay), call.At) {
			ids[call.ApplicationID] = true
		}
	}
	return ids
}

// checkCounters checks that the counters of every batch match its records.
func (e evidence) checkCounters() (found []string) {
	counts := map[int]map[request.State]int{}
	for _, generations := range e.records {
		r := generations[0]
		if counts[r.Batch] == nil {
			counts[r.Batch] = map[request.State]int{}
		}
		counts[r.Batch][r.State]++
	}
	for number, b := range e.batches {
		for _, state := range request.States {
			if got, want := b.counts[state], counts[number][state]; got != want {
				found = append(found, fmt.Sprintf("batch %d %q counts %d %s requests, but has %d", number, b.name, got, state, want))
			}
		}
		delete(counts, number)
	}
	for number := range counts {
		found = append(found, fmt.Sprintf("batch %d has records, but does not exist", number))
	}
	slices.Sort(found)
	return found
}

// checkRate checks the rate limit in every window (promise 4). Each loss of writes by Redis
// may have granted one additional burst.
func (e evidence) checkRate() []string {
	excess, from, to := e.limit.worst(e.calls)
	times := e.disruptions.lossesBetween(from, to)
	if e.losesWrites {
		times = 1
	}
	excess -= float64(times * e.limit.burst)
	if allowed := e.limit.perSecond * e.delay.Seconds(); excess > allowed {
		return []string{fmt.Sprintf("the window from %s to %s contains %.1f calls more than %g/s with a burst of %d allow (arrivals are recorded up to %v late, which explains %.1f)",
			from.Format("15:04:05.000"), to.Format("15:04:05.000"), excess, e.limit.perSecond, e.limit.burst, e.delay, allowed)}
	}
	return nil
}
