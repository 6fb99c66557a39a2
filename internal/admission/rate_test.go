package admission

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/kyclink/kyclink/internal/request"
)

func TestParseRate(t *testing.T) {
	for _, tt := range []struct {
		text string
		want Rate
	}{
		{"20/s", Rate{20, time.Second}}, {"1/m", Rate{1, time.Minute}}, {"100000/h", Rate{100_000, time.Hour}},
		{"", Rate{}}, {"20", Rate{}}, {"0/s", Rate{}}, {"-1/s", Rate{}}, {"+1/s", Rate{}}, {"01/s", Rate{}}, {" 1/s", Rate{}},
		{"1.5/s", Rate{}}, {"100001/s", Rate{}}, {"5/d", Rate{}}, {"5/", Rate{}}, {"5/s/s", Rate{}},
	} {
		got, err := ParseRate(tt.text)
		if got != tt.want || (err == nil) != (tt.want != Rate{}) {
			t.Errorf("%q: %v, %v", tt.text, got, err)
		}
	}
}

func FuzzParseRate(f *testing.F) {
	for _, seed := range []string{"20/s", "1/m", "500/h", "1e3/s", "/s"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if r, err := ParseRate(text); err == nil && r.String() != text {
			t.Errorf("%q reads as %v", text, r)
		}
	})
}

// expectWithin is a bound on the sends that does not know how they came about: a
// full bucket at the highest rate, from which each takes one.
func expectWithin(t testing.TB, sends []time.Time, rate Rate, burst int) {
	t.Helper()
	sends = slices.SortedFunc(slices.Values(sends), time.Time.Compare)
	level := float64(burst)
	for i, s := range sends {
		if i > 0 {
			level = min(float64(burst), level+s.Sub(sends[i-1]).Seconds()*rate.perSecond())
		}
		if level--; level < -1e-6 {
			t.Fatalf("send %d, %s after the first: more than %v with burst %d allow", i, s.Sub(sends[0]), rate, burst)
		}
	}
}

// TestAnyArrivalsStayWithinRate: asks in any pattern, by waiters that obey or do
// not, under rates that change.
func TestAnyArrivalsStayWithinRate(t *testing.T) {
	// miniredis is left to TestLuaDecidesAsGo: it takes seconds here.
	for name, m := range map[string]machine{"go": NewState(), "redis": onRedis(t)} {
		t.Run(name, func(t *testing.T) { arrivals(t, m) })
	}
}

func arrivals(t *testing.T, m machine) {
	var now time.Time
	next := start
	rapid.Check(t, func(rt *rapid.T) {
		rates := rapid.SliceOfN(rapid.SampledFrom([]Rate{{5, time.Second}, {200, time.Second}, {500, time.Second},
			{20, time.Minute}}), 1, 3).Draw(rt, "rates")
		burst := rapid.IntRange(2, 5).Draw(rt, "burst")
		fastest := slices.MaxFunc(rates, func(a, b Rate) int { return int(a.perSecond() - b.perSecond()) })
		next = next.Add(24 * time.Hour)
		now = next
		m.SetRate(now, rates[0], burst)
		var sends []time.Time
		rt.Repeat(map[string]func(*rapid.T){
			"ask": func(rt *rapid.T) {
				lane := rapid.SampledFrom([]request.Lane{request.Interactive, request.Bulk}).Draw(rt, "lane")
				for i := range rapid.IntRange(1, 12).Draw(rt, "n") {
					d := m.Admit(now, Query{Lane: lane, Process: fmt.Sprint(i % 4), ID: "A-1"})
					if d.Verdict == Grant {
						sends = append(sends, now.Add(d.Wait))
					}
					if rapid.Bool().Draw(rt, "obey") {
						now = now.Add(d.Wait)
					}
				}
			},
			"time": func(rt *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(0, 40_000).Draw(rt, "us")) * time.Microsecond)
			},
			"rate": func(rt *rapid.T) { m.OverrideRate(now, rapid.SampledFrom(rates).Draw(rt, "rate")) },
		})
		m.ResetRate(now)
		expectWithin(t, sends, fastest, burst)
	})
}

// TestUnknownLevelIsEmpty: state that is missing, or dated in the future as
// after a fail-over to a server whose clock is behind.
func TestUnknownLevelIsEmpty(t *testing.T) {
	everywhere(t, func(t *testing.T, m machine) {
		ask := Query{Lane: request.Interactive, Process: "1", ID: "A-1"}
		for _, now := range []time.Time{start, start.Add(-time.Hour)} {
			if d := m.Admit(now, ask); d.Verdict != Wait {
				t.Fatalf("at first: %+v", d)
			}
			if d := m.Admit(now.Add(time.Minute), ask); d.Verdict != Grant || d.Wait != 0 {
				t.Fatalf("a minute later: %+v", d)
			}
		}
	})
}

// poller is a process in a lane, which asks for the first request in its queue.
type poller struct {
	at      time.Time
	lane    request.Lane
	process string
	arrived time.Time
	index   int
}

type agenda []*poller

func (a agenda) Len() int           { return len(a) }
func (a agenda) Less(i, j int) bool { return a[i].at.Before(a[j].at) }
func (a agenda) Swap(i, j int)      { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(x any)        { *a = append(*a, x.(*poller)) }
func (a *agenda) Pop() any {
	last := (*a)[len(*a)-1]
	*a = (*a)[:len(*a)-1]
	return last
}

// fleetRun is processes with a bulk backlog that never ends, whose waiters ask
// when they are told, or late, and signups that come now and then.
type fleetRun struct {
	m          machine
	processes  int
	late       func() time.Duration
	signups    []time.Time
	roundTrip  time.Duration
	sends      []time.Time
	waited     []signup
	asks       int
	silentFrom time.Time // process 0 is killed then, where it is set
}

type signup struct{ arrived, sent time.Time }

func (f *fleetRun) run(from, until time.Time) {
	var a agenda
	for i := range f.processes {
		heap.Push(&a, &poller{at: from, lane: request.Bulk, process: fmt.Sprint(i)})
	}
	// Each signup asks as a process of its own would: nobody waits before it.
	for i, s := range f.signups {
		heap.Push(&a, &poller{at: s, arrived: s, lane: request.Interactive, process: fmt.Sprint("s", i), index: i})
	}
	for len(a) > 0 && a[0].at.Before(until) {
		w := heap.Pop(&a).(*poller)
		if !f.silentFrom.IsZero() && w.process == "0" && !w.at.Before(f.silentFrom) {
			continue
		}
		d := f.m.Admit(w.at, Query{Lane: w.lane, Process: w.process, ID: "A-1"})
		f.asks++
		switch {
		case d.Verdict == Wait:
			w.at = w.at.Add(d.Wait + f.late())
		case w.lane == request.Interactive:
			f.sends = append(f.sends, w.at.Add(d.Wait))
			f.waited = append(f.waited, signup{w.arrived, w.at.Add(d.Wait)})
			continue
		default:
			f.sends = append(f.sends, w.at.Add(d.Wait))
			w.at = w.at.Add(f.roundTrip)
		}
		heap.Push(&a, w)
	}
}

func punctual() time.Duration { return 0 }

// lateBy is 1 to 5 ms, in the microseconds of Redis' clock.
func lateBy(r *rand.Rand) func() time.Duration {
	return func() time.Duration { return time.Duration(1000+r.IntN(4000)) * time.Microsecond }
}

// TestRateIsUsed: with a backlog no token is lost, however late timers are, and
// also when a process is killed.
func TestRateIsUsed(t *testing.T) {
	for _, rate := range []Rate{{5, time.Second}, {200, time.Second}, {500, time.Second}, {1, time.Minute}} {
		for _, burst := range []int{2, 5} {
			for _, processes := range []int{1, 2, 4} {
				cases := []string{"punctual", "late"}
				if processes > 1 { // else nobody would be left
					cases = append(cases, "killed")
				}
				for _, late := range cases {
					t.Run(fmt.Sprint(rate, " burst ", burst, " by ", processes, " ", late), func(t *testing.T) {
						used(t, NewState(), rate, burst, processes, late)
					})
				}
			}
		}
	}
	t.Run("redis, one", func(t *testing.T) { used(t, onRedis(t), Rate{500, time.Second}, 2, 1, "late") })
	t.Run("redis, four", func(t *testing.T) { used(t, onRedis(t), Rate{200, time.Second}, 2, 4, "late") })
}

func used(t *testing.T, m machine, rate Rate, burst, processes int, late string) {
	tokens := 400
	if rate.Per == time.Minute { // and many asks for each
		tokens = 100
	}
	takes := time.Duration(tokens) * rate.Per / time.Duration(rate.N)
	warm := start.Add(takes / 10)
	f := &fleetRun{m: m, processes: processes, late: punctual, roundTrip: 200 * time.Microsecond}
	if late != "punctual" {
		f.late = lateBy(rand.New(rand.NewPCG(1, 2)))
	}
	if late == "killed" {
		f.silentFrom = warm
	}
	f.m.SetRate(start, rate, burst)
	f.run(start, warm.Add(takes))
	expectWithin(t, f.sends, rate, burst)
	n := 0
	for _, s := range f.sends {
		if !s.Before(warm) && s.Before(warm.Add(takes)) {
			n++
		}
	}
	t.Logf("%d of %d sends in %d asks", n, tokens, f.asks)
	least := tokens * 99 / 100
	if late == "killed" { // its place in the line is kept for a moment, once
		least -= int(rate.perSecond() * waiterTTL / 1000)
	}
	if n < least {
		t.Errorf("%d of %d tokens used, want %d", n, tokens, least)
	}
}

// TestSignupsWaitOneSlot: behind a bulk backlog that takes all it can, each
// signup is sent one slot after those before it at the latest, and one after it
// came: what a queue of its lane alone would need at the rate. Where a slot is
// shorter than a grant may lie ahead, that much later.
func TestSignupsWaitOneSlot(t *testing.T) {
	for _, rate := range []Rate{{5, time.Second}, {50, time.Second}, {200, time.Second}, {500, time.Second}, {6, time.Minute}} {
		for _, burst := range []int{2, 5} {
			for _, late := range []bool{false, true} {
				t.Run(fmt.Sprint(rate, " burst ", burst, " late ", late), func(t *testing.T) {
					signups(t, NewState(), rate, burst, late, 2000)
				})
			}
		}
	}
	t.Run("redis", func(t *testing.T) { signups(t, onRedis(t), Rate{50, time.Second}, 2, true, 500) })
}

func signups(t *testing.T, m machine, rate Rate, burst int, late bool, n int) {
	random := rand.New(rand.NewPCG(3, 4))
	slot := rate.Per / time.Duration(rate.N)
	f := &fleetRun{m: m, processes: 4, late: punctual, roundTrip: 200 * time.Microsecond}
	if late {
		f.late = lateBy(random)
	}
	for at := start.Add(5 * slot); len(f.signups) < n/4; { // half the rate, in clumps
		at = at.Add(time.Duration(random.Int64N(int64(8 * slot))).Truncate(time.Microsecond))
		for range 1 + random.IntN(3) {
			f.signups = append(f.signups, at)
		}
	}
	f.m.SetRate(start, rate, burst)
	f.run(start, f.signups[len(f.signups)-1].Add(10*slot))
	expectWithin(t, f.sends, rate, burst)
	if len(f.waited) < len(f.signups) {
		t.Fatalf("%d of %d signups sent", len(f.waited), len(f.signups))
	}
	sent := make([]time.Time, len(f.waited))
	for i, w := range f.waited {
		sent[i] = w.sent
	}
	slices.SortFunc(sent, time.Time.Compare)
	var done time.Time
	worst := time.Duration(0)
	for i, arrived := range f.signups {
		if done.Before(arrived) {
			done = arrived
		}
		done = done.Add(slot)
		worst = max(worst, sent[i].Sub(done))
	}
	allowed := 10 * time.Microsecond // moments are rounded up to one
	if slot < 5*time.Millisecond {
		allowed = 6 * time.Millisecond
	}
	t.Logf("at most %s after its slot", worst)
	if worst > allowed {
		t.Errorf("a signup was sent %s after its slot; %s are allowed", worst, allowed)
	}
}

// TestRampIsUsed: from a tenth of the rate to all of it in 15 s, and no less.
func TestRampIsUsed(t *testing.T) {
	for _, rate := range []Rate{{5, time.Second}, {200, time.Second}} {
		m := NewState()
		m.SetRate(start, rate, 5)
		m.Report(start, Report{Kind: NoCredit, ID: "A-1", Process: "0", Began: start})
		opened := start.Add(time.Minute)
		for _, connected := range []bool{false, true} {
			m.Admit(opened, Query{Lane: request.Interactive, Process: "0", ID: "A-1", Connected: connected})
		}
		m.Report(opened, Report{Kind: Success, ID: "A-1", Process: "0", Began: opened})
		f := &fleetRun{m: m, processes: 4, late: lateBy(rand.New(rand.NewPCG(5, 6))), roundTrip: 200 * time.Microsecond}
		f.run(opened, opened.Add(30*time.Second))
		expectWithin(t, f.sends, rate, 5)
		for _, part := range []struct{ from, to, least, most float64 }{{0, 15, 0.5, 0.6}, {1, 2, 0, 0.3}, {5, 10, 0.5, 0.6}, {15, 20, 0.96, 1.04}, {20, 30, 0.98, 1.02}} {
			n := 0.0
			for _, s := range f.sends {
				if at := s.Sub(opened).Seconds(); at >= part.from && at < part.to {
					n++
				}
			}
			if used := n / (part.to - part.from) / rate.perSecond(); used < part.least || used > part.most {
				t.Errorf("%v, from %v to %v s: %.2f of the rate", rate, part.from, part.to, used)
			}
		}
	}
}
