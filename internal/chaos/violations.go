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

// grace is how long a grant may be on its way, see promise 4 of the design.
const grace = 100 * time.Millisecond

// violations is everything that is wrong, each with the id that it is wrong of;
// nothing where the promises were kept.
func (e evidence) violations() []string {
	found := slices.Clone(e.noticed)
	for _, check := range []func() []string{e.conserved, e.told, e.paid, e.quiet, e.counted, e.paced, e.delivered, e.settled, e.honoured} {
		found = append(found, check()...)
	}
	return append(found, e.left...)
}

// spell is one run of one generation, which has one end.
type spell struct {
	id              string
	generation, run int
}

// conserved is promise 1: every accepted request has exactly one end a run.
func (e evidence) conserved() (found []string) {
	ends := map[spell][]entry{}
	ids := map[string]spell{}
	for _, event := range e.events {
		if event.Type == tasks.EventHeld || event.Replay {
			continue
		}
		of := spell{event.Data.ApplicationID, event.Data.Generation, event.Data.Run}
		ends[of] = append(ends[of], event)
		if other, taken := ids[event.ID]; taken {
			found = append(found, fmt.Sprintf("the event id %s is that of %v and of %v", event.ID, other, of))
		}
		ids[event.ID] = of
	}
	if !e.forgets {
		found = append(found, e.forgotten()...)
	}
	for _, id := range sortedIDs(e.records) {
		if p, known := e.asked[id]; !known {
			found = append(found, fmt.Sprintf("%s has a record, and nobody asked for it", id))
		} else if g := e.records[id][0].Generation; g > p.asked || g != len(e.records[id]) {
			found = append(found, fmt.Sprintf("%s has %d records, the latest of generation %d; asked for were %d", id, len(e.records[id]), g, p.asked))
		}
		for _, r := range e.records[id] {
			for n := 1; n <= r.Run; n++ {
				of := spell{id, r.Generation, n}
				found = append(found, e.end(r, n, ends[of])...)
				delete(ends, of)
			}
		}
	}
	for of, events := range ends {
		found = append(found, fmt.Sprintf("%v has %d ends, and there is no such run", of, len(events)))
	}
	return found
}

// forgotten is what was acknowledged and is not known any more.
func (e evidence) forgotten() (found []string) {
	for _, id := range sortedIDs(e.asked) {
		if p := e.asked[id]; e.upset.forgot(p.at) || e.upset.within(p.since, p.at) > 0 {
			continue
		} else if len(e.records[id]) == 0 && p.acknowledged > 0 {
			found = append(found, fmt.Sprintf("%s was acknowledged and is lost", id))
		} else if len(e.records[id]) > 0 && e.records[id][0].Generation < p.acknowledged {
			found = append(found, fmt.Sprintf("generation %d of %s was acknowledged and is lost", p.acknowledged, id))
		}
	}
	return found
}

// end checks the ends of one run of a record.
func (e evidence) end(r request.Record, number int, ends []entry) []string {
	of := spell{r.ApplicationID, r.Generation, number}
	if len(ends) != 1 {
		return []string{fmt.Sprintf("%v has %d ends; its record is %s after %d attempts, accepted at %s", of, len(ends), r.State, r.Attempts, r.AcceptedAt.Format(time.TimeOnly))}
	}
	var found []string
	wrong := func(format string, args ...any) {
		found = append(found, fmt.Sprintf("%v: ", of)+fmt.Sprintf(format, args...))
	}
	end, last := ends[0], number == r.Run
	of1 := r
	of1.Run = number
	if want := of1.EventID(account).String(); end.ID != want {
		wrong("its event has the id %s instead of %s", end.ID, want)
	}
	if want := "link." + string(r.State); last && end.Type != want {
		wrong("its event is %s, and its record %s", end.Type, r.State)
	}
	if !last && end.Type != tasks.EventFailed {
		wrong("it ended as %s, and another run followed", end.Type)
	}
	if last && (end.Data.Attempts != r.Attempts || end.Data.PossibleDuplicates != r.PossibleDuplicates) {
		wrong("its event says %d attempts and %d possible duplicates, its record %d and %d",
			end.Data.Attempts, end.Data.PossibleDuplicates, r.Attempts, r.PossibleDuplicates)
	}
	if last && (end.Data.URL != r.Outcome.URL || end.Data.LinkID != r.Outcome.LinkID) {
		wrong("its event has another link than its record")
	}
	if name := e.batches[r.Batch].name; end.Data.Batch != name {
		wrong("its event is of batch %q, its record of %q", end.Data.Batch, name)
	}
	if want := e.people.request(r.ApplicationID).Metadata; !sameJSON(end.Data.Metadata, want) {
		wrong("its event carries the metadata %s instead of %s", end.Data.Metadata, want)
	}
	return append(found, e.reason(of, r, end)...)
}

// reason says whether an end could come about.
func (e evidence) reason(of spell, r request.Record, end entry) []string {
	bad := strings.Contains(of.id, "-bad-")
	req := e.people.request(of.id)
	why := ""
	switch {
	case end.Type == tasks.EventCreated && bad:
		why = "FaceKi refuses it, and it has a link"
	case end.Type == tasks.EventCreated:
		minutes := time.Duration(e.people.call(of.id).ExpiryTime) * time.Minute
		if life := end.Data.ExpiresAt.Sub(end.Timestamp); life > minutes+time.Second || life < minutes-10*time.Minute {
			why = fmt.Sprintf("its link lives for %v instead of %v", life, minutes)
		}
	case end.Type == tasks.EventCancelled && !e.asked[of.id].cancelled:
		why = "it was cancelled, and nobody asked for that"
	case end.Type != tasks.EventFailed:
	case end.Data.Reason == "not_after" && (req.NotAfter.IsZero() || end.at.Before(req.NotAfter) && !e.upset.moved()):
		why = "it failed for a not_after that had not passed"
	case end.Data.Reason == "not_after", end.Data.Reason == "invalid_request" && bad:
	case end.Data.Reason == "invalid_request" || of.run == r.Run && r.Charged < 8:
		why = fmt.Sprintf("it failed (%s) with %d spent attempts", end.Data.Reason, r.Charged)
	}
	if why == "" {
		return nil
	}
	return []string{fmt.Sprintf("%v: %s", of, why)}
}

func sameJSON(a, b json.RawMessage) bool {
	if len(a) == 0 || len(b) == 0 {
		return len(a) == len(b)
	}
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

// told is that records say what was asked.
func (e evidence) told() (found []string) {
	for _, id := range sortedIDs(e.records) {
		if _, known := e.asked[id]; !known {
			continue
		}
		want := e.people.request(id)
		for _, r := range e.records[id] {
			c := r.Content
			got := tasks.Request{ApplicationID: id, RedirectURL: c.RedirectURL, ExpiryMinutes: c.ExpiryMinutes, DocumentOptional: c.DocumentOptional,
				WorkflowID: c.WorkflowID, CallbackURL: c.CallbackURL, NotAfter: c.NotAfter, Metadata: c.Metadata}
			same := sameJSON(got.Metadata, want.Metadata) && got.NotAfter.Equal(want.NotAfter)
			a, b := got, want
			a.Metadata, b.Metadata, a.NotAfter, b.NotAfter = nil, nil, time.Time{}, time.Time{}
			if !same || text(a) != text(b) {
				found = append(found, fmt.Sprintf("the record of %s, generation %d, says %s instead of %s", id, r.Generation, text(got), text(want)))
			}
		}
	}
	return found
}

// paid is promise 3: links that were issued and are not recorded are known as
// possible duplicates, and what is recorded was issued.
func (e evidence) paid() (found []string) {
	for _, id := range sortedIDs(e.asked) {
		issued := map[string]bool{}
		for _, link := range e.issued[id].Links {
			issued[link.URL] = true
		}
		recorded, possible, attempts := e.recorded(id)
		for _, url := range recorded {
			if !issued[url] {
				found = append(found, fmt.Sprintf("%s has a link that was never issued for it", id))
			}
		}
		excused := e.excused(id)
		if unknown := len(issued) - len(recorded) - possible; unknown > excused && !e.forgets {
			found = append(found, fmt.Sprintf("%s has %d links at FaceKi, %d of them recorded, and only %d possible duplicates",
				id, len(issued), len(recorded), possible))
		}
		if calls := e.issued[id].Calls; calls > attempts+excused && !e.forgets {
			found = append(found, fmt.Sprintf("%s was called %d times, and counts %d attempts", id, calls, attempts))
		}
	}
	for _, event := range e.events {
		issued := false
		for _, link := range e.issued[event.Data.ApplicationID].Links {
			issued = issued || link.URL == event.Data.URL && link.LinkID == event.Data.LinkID
		}
		if event.Type == tasks.EventCreated && !issued {
			found = append(found, fmt.Sprintf("the event of %s has a link that was never issued for it", event.Data.ApplicationID))
		}
	}
	return found
}

// recorded gives the different links that all generations of an id know of, and
// what they count.
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

// quiet is promise 2: once a link is recorded nothing calls again for that
// generation. A call that was granted before may still be on its way.
func (e evidence) quiet() (found []string) {
	made := map[string][]entry{}
	for _, event := range e.events {
		if event.Type == tasks.EventCreated && !event.vague {
			made[event.Data.ApplicationID] = append(made[event.Data.ApplicationID], event)
		}
	}
	for _, call := range e.calls {
		if e.upset.forgot(call.At) {
			continue // it may be of a generation, or of a link, that Redis lost
		}
		for _, event := range made[call.ApplicationID] {
			next := time.Unix(math.MaxInt32, 0)
			for _, r := range e.records[call.ApplicationID] {
				if r.Generation == event.Data.Generation+1 && e.upset.wrongClock(r.AcceptedAt) {
					next = time.Time{} // nobody knows when it was accepted
				} else if r.Generation == event.Data.Generation+1 {
					next = r.AcceptedAt
				}
			}
			if after := call.At.Sub(event.at); after > grace+e.late && call.At.Before(next) {
				found = append(found, fmt.Sprintf("%s was called again %v after its link was recorded", call.ApplicationID, after.Round(time.Millisecond)))
			}
		}
	}
	return found
}

// counted is that the counters of every batch equal the records.
func (e evidence) counted() (found []string) {
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
				found = append(found, fmt.Sprintf("batch %d %q counts %d %s requests, and has %d", number, b.name, got, state, want))
			}
		}
		delete(counts, number)
	}
	for number := range counts {
		found = append(found, fmt.Sprintf("there are records of batch %d, which does not exist", number))
	}
	slices.Sort(found)
	return found
}

// paced is promise 4, over every window there is. A Redis that forgot its last
// writes may have granted one burst more each time.
func (e evidence) paced() []string {
	excess, from, to := e.limit.worst(e.calls)
	times := e.upset.within(from, to)
	if e.forgets {
		times = 1
	}
	excess -= float64(times * e.limit.burst)
	if allowed := e.limit.perSecond * e.late.Seconds(); excess > allowed {
		return []string{fmt.Sprintf("the window from %s to %s holds %.1f calls more than %g/s with a burst of %d allow (arrivals are noted up to %v late, which explains %.1f)",
			from.Format("15:04:05.000"), to.Format("15:04:05.000"), excess, e.limit.perSecond, e.limit.burst, e.late, allowed)}
	}
	return nil
}
