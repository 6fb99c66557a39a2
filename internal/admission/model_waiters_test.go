package admission

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/kyclink/kyclink/internal/request"
)

// maxWait is the longest wait, in ms, between two queries of a waiting process.
const maxWait = 1000

// waiter is a process that waits for a token.
type waiter struct {
	process string
	due     float64 // when it may get a token, in ms
}

// waiters are the processes that wait in a lane, in order.
type waiters struct {
	all   []waiter
	until float64 // after this time, all are stale
}

// current removes the stale waiters and returns the others.
func (w *waiters) current(now float64) []waiter {
	if w.until < now {
		return nil
	}
	w.all = slices.DeleteFunc(w.all, func(e waiter) bool { return e.due+waiterTTL < now })
	return w.all
}

func (w *waiters) remove(process string) {
	w.all = slices.DeleteFunc(w.all, func(e waiter) bool { return e.process == process })
}

func (w *waiters) add(e waiter) {
	w.remove(e.process)
	w.all = append(w.all, e)
	slices.SortFunc(w.all, func(a, b waiter) int {
		return cmp.Or(cmp.Compare(a.due, b.due), cmp.Compare(a.process, b.process))
	})
	w.until = max(w.until, e.due+waiterTTL)
}

type waitersByLane struct{ interactive, bulk waiters }

func (w *waitersByLane) of(lane request.Lane) *waiters {
	if lane == request.Bulk {
		return &w.bulk
	}
	return &w.interactive
}

// admitByRate takes a token, or adds the process to the waiters.
func (m *Model) admitByRate(query Query) Decision {
	b := &m.bucket
	m.settle()
	need, from := 1.0, 0
	if query.Lane == request.Bulk {
		need, from = 2+float64(len(m.waiters.interactive.current(m.now))), len(b.held)
	}
	lane := m.waiters.of(query.Lane)
	place, own := 0, waiter{}
	for _, e := range lane.current(m.now) {
		if e.process == query.Process {
			own = e
			break
		}
		place++
	}
	// A process must leave a token for each process before it, unless the bucket is full:
	// then a token that is not taken is lost.
	goal := max(need, min(need+float64(place), b.burst))
	moment, i := b.earliestGrant(goal, from)
	if goal <= b.burst && moment-m.us <= b.maxAhead() {
		if own.due != 0 {
			lane.remove(query.Process)
		}
		b.takeToken(moment, i)
		return Decision{Verdict: Grant, Wait: micros(moment - m.us)}
	}
	due := moment + (need+float64(place)-goal)*b.tokenTime
	wait := min(maxWait, max(1, (due-m.us-b.maxAhead())/1000))
	next := math.Ceil(due / 1000)
	if own.due != 0 { // the process keeps its place
		next = max(own.due, math.Ceil(m.now+wait))
	}
	if next != own.due {
		lane.add(waiter{query.Process, next})
	}
	return Decision{Wait, millis(wait), "rate"}
}

func micros(us float64) time.Duration { return time.Duration(math.Round(us)) * time.Microsecond }

// millis rounds as %.3f does in Lua.
func millis(ms float64) time.Duration {
	return time.Duration(math.RoundToEven(ms*1000)) * time.Microsecond
}
