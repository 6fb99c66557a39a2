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

// pair is the Go decision beside the one in Redis, asked the same.
type pair struct {
	pure  *State
	lua   *script
	now   time.Time
	calls []Report // grants and orders to connect that nothing was reported of
}

func (p *pair) admit(rt *rapid.T, ask Query) {
	want, got := p.pure.Admit(p.now, ask), p.lua.Admit(p.now, ask)
	if got != want {
		rt.Fatalf("%s %+v\nGo:    %+v\nRedis: %+v\nstate %+v", p.now.Sub(start), ask, want, got, p.pure.gate)
	}
	if want.Wait < 0 || want.Verdict == Wait && (want.Wait < time.Millisecond || want.Wait > time.Second) {
		rt.Fatalf("%+v", want)
	}
	switch want.Verdict {
	case Wait:
	case Grant, Probe:
		p.calls = append(p.calls, Report{ID: ask.ID, Process: ask.Process, Credential: ask.Credential, Began: p.now})
	case Connect:
		if rapid.IntRange(0, 3).Draw(rt, "connects") > 0 {
			ask.Connected = true
			p.pass(rt, []time.Duration{0, 50 * time.Millisecond, 12 * time.Second})
			p.admit(rt, ask)
			return
		}
		r := Report{Kind: Unconnected, ID: ask.ID, Process: ask.Process, Credential: ask.Credential, Began: p.now}
		p.report(r)
	}
}

func (p *pair) report(r Report) { p.pure.Report(p.now, r); p.lua.Report(p.now, r) }

func (p *pair) pass(rt *rapid.T, steps []time.Duration) {
	jitter := time.Duration(rapid.IntRange(0, 2000).Draw(rt, "jitter")) * time.Microsecond
	p.now = p.now.Add(rapid.SampledFrom(steps).Draw(rt, "step") + jitter)
}

func (p *pair) answer(rt *rapid.T) {
	if len(p.calls) == 0 {
		return
	}
	i := rapid.IntRange(0, len(p.calls)-1).Draw(rt, "call")
	r := p.calls[i]
	p.calls = slices.Delete(p.calls, i, i+1)
	r.Kind = rapid.SampledFrom([]Kind{Success, Success, Alive, Outage, Outage, Outage, Outage, Outage, Throttle, Refused,
		NoCredit, LimitReached, None, Back, Unconnected}).Draw(rt, "kind")
	r.RetryAfter = rapid.SampledFrom([]time.Duration{0, 0, time.Millisecond, 7 * time.Second, time.Hour}).Draw(rt, "retry after")
	r.Latency = rapid.SampledFrom([]time.Duration{0, 50 * time.Millisecond, 4 * time.Second}).Draw(rt, "latency")
	p.report(r)
}

// TestLuaDecidesAsGo gives both the same history, whatever it is, and compares
// each decision and, at the end of each, what became of it.
func TestLuaDecidesAsGo(t *testing.T) {
	t.Run("redis", func(t *testing.T) { decidesAsGo(t, onRedis(t), math.MaxInt) })
	t.Run("miniredis", func(t *testing.T) { decidesAsGo(t, onMiniredis(t), 8) }) // it is slow
}

func decidesAsGo(t *testing.T, lua *script, histories int) {
	steps := []time.Duration{0, 0, time.Millisecond, 10 * time.Millisecond, 200 * time.Millisecond, time.Second, 6 * time.Second, 70 * time.Second}
	rate := rapid.SampledFrom([]Rate{{5, time.Second}, {200, time.Second}, {500, time.Second}, {1, time.Minute}, {90, time.Minute}, {100, time.Hour}})
	behind := []time.Duration{0, 0, 0, 20 * time.Millisecond, -time.Hour, 500 * time.Millisecond, 501 * time.Millisecond, 20 * time.Second}
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		if histories--; histories < 0 {
			return
		}
		n++
		lua.keys.Account = fmt.Sprint("d-", n)
		p := &pair{NewState(), lua, start, nil}
		ask := rapid.Custom(func(rt *rapid.T) Query {
			n++
			return Query{
				Lane:       rapid.SampledFrom([]request.Lane{request.Interactive, request.Bulk}).Draw(rt, "lane"),
				Process:    rapid.SampledFrom([]string{"1", "2", "3"}).Draw(rt, "process"),
				Credential: rapid.SampledFrom([]string{"old", "new", "new"}).Draw(rt, "credential"),
				ID:         fmt.Sprint("A-", n),
				Expected:   p.now.Add(-rapid.SampledFrom(behind).Draw(rt, "expected")),
			}
		})
		several := func(rt *rapid.T) {
			for range rapid.IntRange(1, 12).Draw(rt, "asks") {
				p.admit(rt, ask.Draw(rt, "ask"))
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"ask": several, "ask again": several,
			"answer":  p.answer,
			"answers": func(rt *rapid.T) { p.answer(rt); p.answer(rt); p.answer(rt) },
			"time":    func(rt *rapid.T) { p.pass(rt, steps) },
			"beat": func(rt *rapid.T) {
				process := rapid.SampledFrom([]string{"1", "2", "3"}).Draw(rt, "process")
				p.pure.Heartbeat(p.now, process)
				lua.Heartbeat(p.now, process)
			},
			"watch": func(rt *rapid.T) { // as a fleet does all the time
				for range rapid.IntRange(1, 30).Draw(rt, "watches") {
					p.pass(rt, []time.Duration{0, 200 * time.Millisecond, 800 * time.Millisecond})
					p.pure.Heartbeat(p.now, "1")
					lua.Heartbeat(p.now, "1")
					p.pure.Watch(p.now)
					lua.Watch(p.now)
				}
			},
			"pause":    func(*rapid.T) { p.pure.Pause(p.now); lua.Pause(p.now) },
			"resume":   func(*rapid.T) { p.pure.Resume(p.now); lua.Resume(p.now) },
			"resume 2": func(*rapid.T) { p.pure.Resume(p.now); lua.Resume(p.now) },
			"set": func(rt *rapid.T) {
				r, burst := rate.Draw(rt, "rate"), rapid.IntRange(2, 6).Draw(rt, "burst")
				p.pure.SetRate(p.now, r, burst)
				lua.SetRate(p.now, r, burst)
			},
			"override": func(rt *rapid.T) {
				r := rate.Draw(rt, "rate")
				p.pure.OverrideRate(p.now, r)
				lua.OverrideRate(p.now, r)
			},
			"reset": func(*rapid.T) { p.pure.ResetRate(p.now); lua.ResetRate(p.now) },
			"clock": func(rt *rapid.T) { // it goes back when a replica takes over
				p.now = p.now.Add(-rapid.SampledFrom(steps).Draw(rt, "back"))
			},
			"clock is set": func(rt *rapid.T) {
				p.now = p.now.Add(rapid.SampledFrom([]time.Duration{-time.Hour, -5 * time.Minute, -5 * time.Second, 20 * time.Second, 24 * time.Hour}).Draw(rt, "step"))
			},
		})
		if want, got := p.pure.changes(), lua.changes(); !slices.Equal(got, want) {
			rt.Fatalf("history\nGo:    %v\nRedis: %v", want, got)
		}
	})
}
