package admission

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/kyclink/kyclink/internal/request"
)

// pair gives the model and the scripts the same calls.
type pair struct {
	model *Model
	lua   *scripts
	now   time.Time
	calls []Report // granted calls without an outcome yet
}

func (p *pair) admit(rt *rapid.T, query Query) {
	want, got := p.model.Admit(p.now, query), p.lua.Admit(p.now, query)
	if got != want {
		rt.Fatalf("%s after the start, query %+v\nmodel: %+v\nLua:   %+v\ngate of the model: %+v", p.now.Sub(start), query, want, got, p.model.gate)
	}
	if want.Wait < 0 || want.Verdict == Wait && (want.Wait < time.Millisecond || want.Wait > time.Second) {
		rt.Fatalf("the wait is negative, or not from 1 ms to 1 s: %+v", want)
	}
	switch want.Verdict {
	case Wait:
	case Grant, Probe:
		p.calls = append(p.calls, Report{ID: query.ID, Process: query.Process, Credential: query.Credential, Began: p.now})
	case Connect:
		if rapid.IntRange(0, 3).Draw(rt, "connects") > 0 {
			query.Connected = true
			p.advance(rt, []time.Duration{0, 50 * time.Millisecond, 12 * time.Second})
			p.admit(rt, query)
			return
		}
		r := Report{Signal: rapid.SampledFrom([]Signal{Unconnected, NoToken}).Draw(rt, "trouble"), ID: query.ID, Process: query.Process, Credential: query.Credential, Began: p.now}
		p.report(r)
	}
}

func (p *pair) report(r Report) { p.model.Report(p.now, r); p.lua.Report(p.now, r) }

func (p *pair) advance(rt *rapid.T, steps []time.Duration) {
	jitter := time.Duration(rapid.IntRange(0, 2000).Draw(rt, "jitter")) * time.Microsecond
	p.now = p.now.Add(rapid.SampledFrom(steps).Draw(rt, "step") + jitter)
}

func (p *pair) reportOutcome(rt *rapid.T) {
	if len(p.calls) == 0 {
		return
	}
	i := rapid.IntRange(0, len(p.calls)-1).Draw(rt, "call")
	r := p.calls[i]
	p.calls = slices.Delete(p.calls, i, i+1)
	r.Signal = rapid.SampledFrom([]Signal{Success, Success, Alive, Outage, Outage, Outage, Unavailable, Unavailable, Throttle, Refused,
		NoCredit, LimitReached, None, Unused, Unconnected, NoToken}).Draw(rt, "signal")
	r.RetryAfter = rapid.SampledFrom([]time.Duration{0, 0, time.Millisecond, 7 * time.Second, time.Hour}).Draw(rt, "retry after")
	r.Latency = rapid.SampledFrom([]time.Duration{0, 50 * time.Millisecond, 4 * time.Second}).Draw(rt, "latency")
	p.report(r)
}

// TestLua_DecidesAsTheModel runs random sequences of calls, and compares each decision and
// the changes of the gate.
func TestLua_DecidesAsTheModel(t *testing.T) {
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		checkAgainstModel(t, onRedis(t), math.MaxInt)
	})
	t.Run("miniredis", func(t *testing.T) {
		t.Parallel()
		checkAgainstModel(t, onMiniredis(t), 8) // it is slow
	})
}

// checkAgainstModel compares the scripts with the model over at most the given number of
// sequences.
func checkAgainstModel(t *testing.T, lua *scripts, sequences int) {
	steps := []time.Duration{0, 0, time.Millisecond, 10 * time.Millisecond, 200 * time.Millisecond, time.Second, 6 * time.Second, 70 * time.Second}
	rate := rapid.SampledFrom([]Rate{{5, time.Second}, {200, time.Second}, {500, time.Second}, {1, time.Minute}, {90, time.Minute}, {100, time.Hour}})
	ahead := []time.Duration{0, 0, 0, 20 * time.Millisecond, -time.Hour, 500 * time.Millisecond, 501 * time.Millisecond, 20 * time.Second}
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		if sequences--; sequences < 0 {
			return
		}
		n++
		lua.keys.Account = fmt.Sprint("d-", n)
		p := &pair{NewModel(), lua, start, nil}
		query := rapid.Custom(func(rt *rapid.T) Query {
			n++
			return Query{
				Lane:       rapid.SampledFrom([]request.Lane{request.Interactive, request.Bulk}).Draw(rt, "lane"),
				Process:    rapid.SampledFrom([]string{"1", "2", "3"}).Draw(rt, "process"),
				Credential: rapid.SampledFrom([]string{"old", "new", "new"}).Draw(rt, "credential"),
				ID:         fmt.Sprint("A-", n),
				Expected:   p.now.Add(-rapid.SampledFrom(ahead).Draw(rt, "ahead of the expected time")),
			}
		})
		several := func(rt *rapid.T) {
			for range rapid.IntRange(1, 12).Draw(rt, "queries") {
				p.admit(rt, query.Draw(rt, "query"))
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"queries": several, "more queries": several, // drawn twice as often
			"outcome":  p.reportOutcome,
			"outcomes": func(rt *rapid.T) { p.reportOutcome(rt); p.reportOutcome(rt); p.reportOutcome(rt) },
			"time":     func(rt *rapid.T) { p.advance(rt, steps) },
			"heartbeat": func(rt *rapid.T) {
				process := rapid.SampledFrom([]string{"1", "2", "3"}).Draw(rt, "process")
				p.model.Heartbeat(p.now, process)
				lua.Heartbeat(p.now, process)
			},
			"watch": func(rt *rapid.T) { // as a fleet does regularly
				for range rapid.IntRange(1, 30).Draw(rt, "watches") {
					p.advance(rt, []time.Duration{0, 200 * time.Millisecond, 800 * time.Millisecond})
					p.model.Heartbeat(p.now, "1")
					lua.Heartbeat(p.now, "1")
					p.model.Watch(p.now)
					lua.Watch(p.now)
				}
			},
			"pause":        func(*rapid.T) { p.model.Pause(p.now); lua.Pause(p.now) },
			"resume":       func(*rapid.T) { p.model.Resume(p.now); lua.Resume(p.now) },
			"resume again": func(*rapid.T) { p.model.Resume(p.now); lua.Resume(p.now) },
			"set": func(rt *rapid.T) {
				r, burst := rate.Draw(rt, "rate"), rapid.IntRange(2, 6).Draw(rt, "burst")
				p.model.SetRate(p.now, r, burst)
				lua.SetRate(p.now, r, burst)
			},
			"override": func(rt *rapid.T) {
				r := rate.Draw(rt, "rate")
				burst := rapid.SampledFrom([]int{0, 0, 2, 4, 9}).Draw(rt, "burst")
				p.model.OverrideRate(p.now, r, burst)
				lua.OverrideRate(p.now, r, burst)
			},
			"reset": func(*rapid.T) { p.model.ResetRate(p.now); lua.ResetRate(p.now) },
			"clock goes back": func(rt *rapid.T) { // as when a replica takes over
				p.now = p.now.Add(-rapid.SampledFrom(steps).Draw(rt, "back"))
			},
			"clock is set": func(rt *rapid.T) {
				p.now = p.now.Add(rapid.SampledFrom([]time.Duration{-time.Hour, -5 * time.Minute, -5 * time.Second, 20 * time.Second, 24 * time.Hour}).Draw(rt, "step"))
			},
		})
		if want, got := p.model.changes(), lua.changes(); !slices.Equal(got, want) {
			rt.Fatalf("changes of the gate\nmodel: %v\nLua:   %v", want, got)
		}
	})
}
