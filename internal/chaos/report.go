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

// worst is by how many calls the fullest window, however long and wherever it
// begins, is over the limit, and which one that is.
func (l limit) worst(calls []simulator.Call) (excess float64, from, to time.Time) {
	at := make([]time.Time, len(calls))
	for i, c := range calls {
		at[i] = c.At
	}
	slices.SortFunc(at, time.Time.Compare)
	// The number of calls of a window less what the rate allows in it is a
	// difference of two values of: calls until then less rate times then.
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

// figures describe a run, beside its violations.
type figures struct {
	seed             uint64
	asking, draining time.Duration
	evidence         evidence
	state            simulator.State
}

// table prints the figures as docs/benchmarks.md has them.
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
	recorded, unknown := 0, 0
	for id := range e.asked {
		links, possible, _ := e.recorded(id)
		recorded += len(links)
		unknown += max(0, len(e.issued[id].Links)-len(links)-possible)
	}
	row := func(what, format string, args ...any) {
		fmt.Fprintf(out, "| %s | %s |\n", what, fmt.Sprintf(format, args...))
	}
	fmt.Fprintf(out, "\n| seed %d, %v of faults, drained after %v more | |\n| --- | --- |\n", f.seed, f.asking.Round(time.Second), f.draining.Round(time.Second))
	row("requests accepted; their generations; their runs", "%d; %d; %d", accepted, generations, runs)
	row("ends: created, failed, cancelled; held in between", "%d, %d, %d; %d",
		ends[tasks.EventCreated], ends[tasks.EventFailed], ends[tasks.EventCancelled], ends[tasks.EventHeld])
	row("calls; links issued; links recorded", "%d; %d; %d", f.state.LinkCalls, f.state.Links, recorded)
	row("links beyond the recorded ones; possible duplicates counted", "%d; %d", f.state.Links-recorded, known)
	row("duplicates unknown", "%d", unknown)
	row("callbacks taken; intake entries, of them rejected; links that the API gave", "%d; %d, %d; %d",
		len(e.taken), len(e.entries), len(e.rejected), len(e.promised))
	if e.forgets || len(e.upset.losses) > 0 {
		row("acknowledged requests that Redis lost", "%d", len(e.forgotten()))
	}
	n := 0
	for _, times := range e.injected {
		n += times
	}
	row("faults injected", "%d of %d kinds", n, len(e.injected))
	if median, longest, crashes := e.recovery(); crashes > 0 {
		row("sudden ends of workers; until the last request that was under way had its link: median, longest", "%d; %v, %v",
			crashes, median.Round(100*time.Millisecond), longest.Round(100*time.Millisecond))
	}
	var names []string
	for _, name := range sortedIDs(e.injected) {
		names = append(names, fmt.Sprintf("%s %d", name, e.injected[name]))
	}
	fmt.Fprintf(out, "\nfaults: %s\nanswers that were no success: %s\n", strings.Join(names, ", "), text(f.state.Faults))
}

// recovery is how long it took from each sudden end of a worker until the last
// request that any worker had then got its link, if it got one.
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
