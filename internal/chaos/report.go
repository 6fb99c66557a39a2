package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/tasks"
)

// worst returns the window, of any length, with the most calls over the limit, and their
// number.
func (l limit) worst(calls []simulator.Call) (excess float64, from, to time.Time) {
	at := make([]time.Time, len(calls))
	for i, c := range calls {
		at[i] = c.At
	}
	slices.SortFunc(at, time.Time.Compare)
	// Let level(t) be the number of calls until t, minus the rate multiplied by t. The excess
	// of a window is the difference of the levels at its ends.
	excess = -float64(l.burst)
	lowest, first := 0.0, 0
	for i, t := range at {
		level := float64(i) - l.perSecond*t.Sub(at[0]).Seconds()
		if i == 0 || level < lowest {
			lowest, first = level, i
		}
		if over := level + 1 - lowest - l.perSecond*grace.Seconds() - float64(l.burst); over > excess {
			excess, from, to = over, at[first], t
		}
	}
	return excess, from, to
}

// figures summarize a run.
type figures struct {
	seed                uint64
	injecting, draining time.Duration
	evidence            evidence
	state               simulator.State
}

// table prints the figures that docs/benchmarks.md contains.
func (f figures) table(out io.Writer) {
	e := f.evidence
	accepted, generations, runs, known := 0, 0, 0, 0
	for id := range e.records {
		accepted++
		generations += len(e.records[id])
		for _, r := range e.records[id] {
			runs += r.Run
			known += r.PossibleDuplicates
		}
	}
	ends := map[string]int{}
	for _, event := range e.events {
		ends[event.Type]++
	}
	recorded, notCounted := 0, 0
	for id := range e.requested {
		links, possible, _ := e.recorded(id)
		recorded += len(links)
		notCounted += max(0, len(e.issued[id].Links)-len(links)-possible)
	}
	row := func(what, format string, args ...any) {
		fmt.Fprintf(out, "| %s | %s |\n", what, fmt.Sprintf(format, args...))
	}
	fmt.Fprintf(out, "\n| seed %d, %v of faults, all requests ended %v later | |\n| --- | --- |\n", f.seed, f.injecting.Round(time.Second), f.draining.Round(time.Second))
	row("requests accepted; generations; runs", "%d; %d; %d", accepted, generations, runs)
	row("ends: created, failed, cancelled; held meanwhile", "%d, %d, %d; %d",
		ends[tasks.EventCreated], ends[tasks.EventFailed], ends[tasks.EventCancelled], ends[tasks.EventHeld])
	row("calls; links issued; links recorded", "%d; %d; %d", f.state.LinkCalls, f.state.Links, recorded)
	row("links issued but not recorded; possible duplicates counted", "%d; %d", f.state.Links-recorded, known)
	row("duplicates not counted", "%d", notCounted)
	row("callbacks received; intake entries, of them rejected; links returned by the API", "%d; %d, %d; %d",
		len(e.received), len(e.entries), len(e.rejected), len(e.apiLinks))
	if e.losesWrites || len(e.disruptions.losses) > 0 {
		row("acknowledged requests lost by Redis", "%d", len(e.lostRequests()))
	}
	n := 0
	for _, times := range e.injected {
		n += times
	}
	row("faults injected", "%d of %d kinds", n, len(e.injected))
	if median, longest, crashes := e.recovery(); crashes > 0 {
		row("sudden ends of workers; time until the last request in flight had its link: median, longest", "%d; %v, %v",
			crashes, median.Round(100*time.Millisecond), longest.Round(100*time.Millisecond))
	}
	var names []string
	for _, name := range sortedIDs(e.injected) {
		names = append(names, fmt.Sprintf("%s %d", name, e.injected[name]))
	}
	fmt.Fprintf(out, "\nfaults: %s\nunsuccessful answers: %s\n", strings.Join(names, ", "), text(f.state.Faults))
}

// recovery returns the times from the sudden ends of workers until the last request that was
// in flight then had its link.
func (e evidence) recovery() (median, longest time.Duration, crashes int) {
	made := map[string][]time.Time{}
	for _, event := range e.events {
		if event.Type == tasks.EventCreated {
			made[event.Data.ApplicationID] = append(made[event.Data.ApplicationID], event.at)
		}
	}
	var times []time.Duration
	for _, c := range e.crashes {
		last := time.Duration(0)
		for _, id := range c.ids {
			for _, at := range made[id] {
				if at.After(c.at) {
					last = max(last, at.Sub(c.at))
					break
				}
			}
		}
		if last > 0 {
			times = append(times, last)
		}
	}
	if len(times) == 0 {
		return 0, 0, 0
	}
	slices.Sort(times)
	return times[len(times)/2], times[len(times)-1], len(times)
}
