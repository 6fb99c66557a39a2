package admission

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/kyclink/kyclink/internal/request"
)

// maxWait is after how many ms a process that waits asks again at the latest.
const maxWait = 1000

// waiter is a process that waits for a token, by when it may get it, ms.
type waiter struct {
	process string
	due     float64
}

// waiters are the processes that wait in a lane, in order.
type waiters struct {
	all   []waiter
	until float64 // all are stale after this
}

// current returns the waiters that count, and removes the others.
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

// admitByRate takes a token, or lists the process as waiting.
func (s *State) admitByRate(ask Query) Decision {
	b := &s.bucket
	s.settle()
	need, from := 1.0, 0
	if ask.Lane == request.Bulk {
		need, from = 2+float64(len(s.waiters.interactive.current(s.now))), len(b.held)
	}
	lane := s.waiters.of(ask.Lane)
	place, own := 0, waiter{}
	for _, e := range lane.current(s.now) {
		if e.process == ask.Process {
			own = e
			break
		}
		place++
	}
	// A process that asks before others gets only what they leave, unless the bucket is
	// full: a token that nobody takes is lost.
	goal := max(need, min(need+float64(place), b.burst))
	moment, i := b.earliestGrant(goal, from)
	if goal <= b.burst && moment-s.us <= b.maxAhead() {
		if own.due != 0 {
			lane.remove(ask.Process)
		}
		b.takeToken(moment, i)
		return Decision{Verdict: Grant, Wait: micros(moment - s.us)}
	}
	due := moment + (need+float64(place)-goal)*b.tokenTime
	wait := min(maxWait, max(1, (due-s.us-b.maxAhead())/1000))
	next := math.Ceil(due / 1000)
	if own.due != 0 { // it keeps its place
		next = max(own.due, math.Ceil(s.now+wait))
	}
	if next != own.due {
		lane.add(waiter{ask.Process, next})
	}
	return Decision{Wait, millis(wait), "rate"}
}

func micros(us float64) time.Duration { return time.Duration(math.Round(us)) * time.Microsecond }

// millis rounds as %.3f does in the script.
func millis(ms float64) time.Duration {
	return time.Duration(math.RoundToEven(ms*1000)) * time.Microsecond
}
