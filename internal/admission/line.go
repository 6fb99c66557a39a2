package admission

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/kyclink/kyclink/internal/request"
)

const (
	fresh = 250  // ms after which an entry whose moment has passed is stale
	soon  = 1000 // ms after which whoever waits asks again at the latest
)

// entry is a process' place in a line: when it may win, ms.
type entry struct {
	process string
	due     float64
}

// line is a lane's entries in order.
type line struct {
	entries []entry
	until   float64 // all are stale after this
}

// fresh gives the entries that count, and drops the others.
func (l *line) fresh(now float64) []entry {
	if l.until < now {
		return nil
	}
	l.entries = slices.DeleteFunc(l.entries, func(e entry) bool { return e.due+fresh < now })
	return l.entries
}

func (l *line) leave(process string) {
	l.entries = slices.DeleteFunc(l.entries, func(e entry) bool { return e.process == process })
}

func (l *line) enter(e entry) {
	l.leave(e.process)
	l.entries = append(l.entries, e)
	slices.SortFunc(l.entries, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.due, b.due), cmp.Compare(a.process, b.process))
	})
	l.until = max(l.until, e.due+fresh)
}

// lines has a line for each lane.
type lines struct{ interactive, bulk line }

func (l *lines) of(lane request.Lane) *line {
	if lane == request.Bulk {
		return &l.bulk
	}
	return &l.interactive
}

// byRate takes a token or a place in the line.
func (s *State) byRate(ask Ask) Decision {
	b := &s.bucket
	s.settle()
	need, from := 1.0, 0
	if ask.Lane == request.Bulk {
		need, from = 2+float64(len(s.lines.interactive.fresh(s.now))), len(b.held)
	}
	mine := s.lines.of(ask.Lane)
	place, own := 0, entry{}
	for _, e := range mine.fresh(s.now) {
		if e.process == ask.Process {
			own = e
			break
		}
		place++
	}
	// Who comes out of turn takes only what those before it leave, unless the
	// bucket is full: a token that nobody takes is lost.
	goal := max(need, min(need+float64(place), b.burst))
	moment, i := b.earliest(goal, from)
	if goal <= b.burst && moment-s.us <= b.ahead() {
		if own.due != 0 {
			mine.leave(ask.Process)
		}
		b.take(moment, i)
		return Decision{Verdict: Grant, Wait: micros(moment - s.us)}
	}
	due := moment + (need+float64(place)-goal)*b.slot
	wait := min(soon, max(1, (due-s.us-b.ahead())/1000))
	next := math.Ceil(due / 1000)
	if own.due != 0 { // it keeps its place
		next = max(own.due, math.Ceil(s.now+wait))
	}
	if next != own.due {
		mine.enter(entry{ask.Process, next})
	}
	return Decision{Wait, millis(wait), "rate"}
}

func micros(us float64) time.Duration { return time.Duration(math.Round(us)) * time.Microsecond }

// millis rounds as %.3f does in the script.
func millis(ms float64) time.Duration {
	return time.Duration(math.RoundToEven(ms*1000)) * time.Microsecond
}
