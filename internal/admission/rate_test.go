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

func TestParseRate_AcceptsAWholeNumberPerUnit(t *testing.T) {
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
			t.Errorf("ParseRate(%q) = %v, %v; want %v", tt.text, got, err, tt.want)
		}
	}
}

func FuzzParseRate(f *testing.F) {
	for _, seed := range []string{"20/s", "1/m", "500/h", "1e3/s", "/s"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if r, err := ParseRate(text); err == nil && r.String() != text {
			t.Errorf("ParseRate(%q) = %v, which is written differently", text, r)
		}
	})
}

// checkSends checks that a full bucket at this rate has a token for each send. It knows
// nothing of how the sends were granted.
func checkSends(t testing.TB, sends []time.Time, rate Rate, burst int) {
	t.Helper()
	sends = slices.SortedFunc(slices.Values(sends), time.Time.Compare)
	level := float64(burst)
	for i, s := range sends {
		if i > 0 {
			level = min(float64(burst), level+s.Sub(sends[i-1]).Seconds()*rate.perSecond())
		}
		if level--; level < -1e-6 {
			t.Fatalf("send %d, %s after the first: more sends than a rate of %v with burst %d allows", i, s.Sub(sends[0]), rate, burst)
		}
	}
}

// TestRate_IsNeverExceededByRandomQueries queries at random times, by processes that wait as
// told or do not, while the rate changes. TestLua_DecidesAsTheModel covers miniredis, which
// is slow.
func TestRate_IsNeverExceededByRandomQueries(t *testing.T) {
	for name, d := range map[string]decider{"model": NewModel(), "redis": onRedis(t)} {
		t.Run(name, func(t *testing.T) { queryAtRandom(t, d) })
	}
}

func queryAtRandom(t *testing.T, decider decider) {
	var now time.Time
	next := start
	rapid.Check(t, func(rt *rapid.T) {
		rates := rapid.SliceOfN(rapid.SampledFrom([]Rate{{5, time.Second}, {200, time.Second}, {500, time.Second},
			{20, time.Minute}}), 1, 3).Draw(rt, "rates")
		burst := rapid.IntRange(2, 5).Draw(rt, "burst")
		fastest := slices.MaxFunc(rates, func(a, b Rate) int { return int(a.perSecond() - b.perSecond()) })
		next = next.Add(24 * time.Hour)
		now = next
		decider.SetRate(now, rates[0], burst)
		var sends []time.Time
		rt.Repeat(map[string]func(*rapid.T){
			"queries": func(rt *rapid.T) {
				lane := rapid.SampledFrom([]request.Lane{request.Interactive, request.Bulk}).Draw(rt, "lane")
				for i := range rapid.IntRange(1, 12).Draw(rt, "count") {
					d := decider.Admit(now, Query{Lane: lane, Process: fmt.Sprint(i % 4), ID: "A-1"})
					if d.Verdict == Grant {
						sends = append(sends, now.Add(d.Wait))
					}
					if rapid.Bool().Draw(rt, "waits") {
						now = now.Add(d.Wait)
					}
				}
			},
			"time": func(rt *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(0, 40_000).Draw(rt, "us")) * time.Microsecond)
			},
			"rate": func(rt *rapid.T) { decider.OverrideRate(now, rapid.SampledFrom(rates).Draw(rt, "rate"), 0) },
		})
		decider.ResetRate(now)
		checkSends(t, sends, fastest, burst)
	})
}

// TestBucket_StartsEmptyWhenItsLevelIsUnknown tests state that is missing, or dated in the
// future, as after a failover to a server whose clock is behind.
func TestBucket_StartsEmptyWhenItsLevelIsUnknown(t *testing.T) {
	onEachDecider(t, func(t *testing.T, decider decider) {
		query := Query{Lane: request.Interactive, Process: "1", ID: "A-1"}
		for _, now := range []time.Time{start, start.Add(-time.Hour)} {
			if d := decider.Admit(now, query); d.Verdict != Wait {
				t.Fatalf("the first decision is %+v, want wait", d)
			}
			if d := decider.Admit(now.Add(time.Minute), query); d.Verdict != Grant || d.Wait != 0 {
				t.Fatalf("the decision a minute later is %+v, want a grant without a wait", d)
			}
		}
	})
}

// poller is a process that queries a call in its lane.
type poller struct {
	at      time.Time // of its next query
	lane    request.Lane
	process string
}

// pollers is a heap of pollers by the time of their next query.
type pollers []*poller

func (p pollers) Len() int           { return len(p) }
func (p pollers) Less(i, j int) bool { return p[i].at.Before(p[j].at) }
func (p pollers) Swap(i, j int)      { p[i], p[j] = p[j], p[i] }
func (p *pollers) Push(x any)        { *p = append(*p, x.(*poller)) }
func (p *pollers) Pop() any {
	last := (*p)[len(*p)-1]
	*p = (*p)[:len(*p)-1]
	return last
}

// fleetRun simulates processes with an endless bulk backlog, and interactive requests that
// arrive at given times.
type fleetRun struct {
	decider   decider
	processes int
	delay     func() time.Duration // how late a waiting process queries again
	arrivals  []time.Time          // of interactive requests
	roundTrip time.Duration
	killedAt  time.Time // when process 0 is killed, or the zero time

	// Results.
	sends    []time.Time
	answered []time.Time // sends of interactive requests
	queries  int
}

func (f *fleetRun) run(from, until time.Time) {
	var a pollers
	for i := range f.processes {
		heap.Push(&a, &poller{at: from, lane: request.Bulk, process: fmt.Sprint(i)})
	}
	// Each interactive request is queried by a process of its own, so that none waits for
	// another in its process.
	for i, at := range f.arrivals {
		heap.Push(&a, &poller{at: at, lane: request.Interactive, process: fmt.Sprint("s", i)})
	}
	for len(a) > 0 && a[0].at.Before(until) {
		w := heap.Pop(&a).(*poller)
		if !f.killedAt.IsZero() && w.process == "0" && !w.at.Before(f.killedAt) {
			continue
		}
		d := f.decider.Admit(w.at, Query{Lane: w.lane, Process: w.process, ID: "A-1"})
		f.queries++
		switch {
		case d.Verdict == Wait:
			w.at = w.at.Add(d.Wait + f.delay())
		case w.lane == request.Interactive:
			f.sends = append(f.sends, w.at.Add(d.Wait))
			f.answered = append(f.answered, w.at.Add(d.Wait))
			continue
		default:
			f.sends = append(f.sends, w.at.Add(d.Wait))
			w.at = w.at.Add(f.roundTrip)
		}
		heap.Push(&a, w)
	}
}

func noDelay() time.Duration { return 0 }

// randomDelay returns delays from 1 to 5 ms, in whole microseconds like Redis' clock.
func randomDelay(r *rand.Rand) func() time.Duration {
	return func() time.Duration { return time.Duration(1000+r.IntN(4000)) * time.Microsecond }
}

// TestRate_IsUsedUpByABacklog checks that less than 1 % of the tokens is lost, with late
// timers and when a process is killed.
func TestRate_IsUsedUpByABacklog(t *testing.T) {
	for _, rate := range []Rate{{5, time.Second}, {200, time.Second}, {500, time.Second}, {1, time.Minute}} {
		for _, burst := range []int{2, 5} {
			for _, processes := range []int{1, 2, 4} {
				cases := []string{"punctual", "late"}
				if processes > 1 { // one must be left
					cases = append(cases, "killed")
				}
				for _, name := range cases {
					t.Run(fmt.Sprint(rate, " burst ", burst, " processes ", processes, " ", name), func(t *testing.T) {
						checkUse(t, NewModel(), rate, burst, processes, name)
					})
				}
			}
		}
	}
	t.Run("redis, one process", func(t *testing.T) { checkUse(t, onRedis(t), Rate{500, time.Second}, 2, 1, "late") })
	t.Run("redis, four processes", func(t *testing.T) { checkUse(t, onRedis(t), Rate{200, time.Second}, 2, 4, "late") })
}

// checkUse runs a fleet that is "punctual", "late", or late and loses a process ("killed").
func checkUse(t *testing.T, d decider, rate Rate, burst, processes int, name string) {
	tokens := 400
	if rate.Per == time.Minute { // with many queries for each
		tokens = 100
	}
	takes := time.Duration(tokens) * rate.Per / time.Duration(rate.N)
	warm := start.Add(takes / 10)
	f := &fleetRun{decider: d, processes: processes, delay: noDelay, roundTrip: 200 * time.Microsecond}
	if name != "punctual" {
		f.delay = randomDelay(rand.New(rand.NewPCG(1, 2)))
	}
	if name == "killed" {
		f.killedAt = warm
	}
	f.decider.SetRate(start, rate, burst)
	f.run(start, warm.Add(takes))
	checkSends(t, f.sends, rate, burst)
	n := 0
	for _, s := range f.sends {
		if !s.Before(warm) && s.Before(warm.Add(takes)) {
			n++
		}
	}
	t.Logf("%d of %d tokens used in %d queries", n, tokens, f.queries)
	least := tokens * 99 / 100
	if name == "killed" { // the place of the dead process is kept for waiterTTL, once
		least -= int(rate.perSecond() * waiterTTL / 1000)
	}
	if n < least {
		t.Errorf("%d of %d tokens used, want at least %d", n, tokens, least)
	}
}

// TestRate_DelaysInteractiveCallsByAtMostOneSlot checks that each interactive call, despite a
// bulk backlog, is sent at most one slot (the time of one token) after its arrival and after
// the interactive calls before it. That is how long it would take if there were no bulk
// calls. If a slot is shorter than the time that a grant may lie ahead, it may be sent later
// by that time.
func TestRate_DelaysInteractiveCallsByAtMostOneSlot(t *testing.T) {
	for _, rate := range []Rate{{5, time.Second}, {50, time.Second}, {200, time.Second}, {500, time.Second}, {6, time.Minute}} {
		for _, burst := range []int{2, 5} {
			for _, late := range []bool{false, true} {
				t.Run(fmt.Sprint(rate, " burst ", burst, " late ", late), func(t *testing.T) {
					t.Parallel()
					checkInteractiveDelay(t, NewModel(), rate, burst, late, delayTokens)
				})
			}
		}
	}
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		checkInteractiveDelay(t, onRedis(t), Rate{50, time.Second}, 2, true, 500)
	})
}

func checkInteractiveDelay(t *testing.T, d decider, rate Rate, burst int, late bool, tokens int) {
	random := rand.New(rand.NewPCG(3, 4))
	slot := rate.Per / time.Duration(rate.N)
	f := &fleetRun{decider: d, processes: 4, delay: noDelay, roundTrip: 200 * time.Microsecond}
	if late {
		f.delay = randomDelay(random)
	}
	for at := start.Add(5 * slot); len(f.arrivals) < tokens/4; { // half the rate, one to three at once
		at = at.Add(time.Duration(random.Int64N(int64(8 * slot))).Truncate(time.Microsecond))
		for range 1 + random.IntN(3) {
			f.arrivals = append(f.arrivals, at)
		}
	}
	f.decider.SetRate(start, rate, burst)
	f.run(start, f.arrivals[len(f.arrivals)-1].Add(10*slot))
	checkSends(t, f.sends, rate, burst)
	if len(f.answered) < len(f.arrivals) {
		t.Fatalf("%d of %d interactive calls sent", len(f.answered), len(f.arrivals))
	}
	sent := slices.SortedFunc(slices.Values(f.answered), time.Time.Compare)
	var due time.Time // when the call must be sent
	worst := time.Duration(0)
	for i, arrived := range f.arrivals {
		if due.Before(arrived) {
			due = arrived
		}
		due = due.Add(slot)
		worst = max(worst, sent[i].Sub(due))
	}
	allowed := 10 * time.Microsecond // times are rounded up
	if slot < 5*time.Millisecond {
		allowed = 6 * time.Millisecond
	}
	t.Logf("at most %s late", worst)
	if worst > allowed {
		t.Errorf("an interactive call was sent %s late, want at most %s", worst, allowed)
	}
}

// TestRamp_GrowsFromATenthToTheWholeRate checks that the rate grows within 5 s, and that a
// backlog uses it up.
func TestRamp_GrowsFromATenthToTheWholeRate(t *testing.T) {
	for _, rate := range []Rate{{5, time.Second}, {200, time.Second}} {
		m := NewModel()
		m.SetRate(start, rate, 5)
		m.Report(start, Report{Signal: NoCredit, ID: "A-1", Process: "0", Began: start})
		opened := start.Add(time.Minute)
		for _, connected := range []bool{false, true} {
			m.Admit(opened, Query{Lane: request.Interactive, Process: "0", ID: "A-1", Connected: connected})
		}
		m.Report(opened, Report{Signal: Success, ID: "A-1", Process: "0", Began: opened})
		f := &fleetRun{decider: m, processes: 4, delay: randomDelay(rand.New(rand.NewPCG(5, 6))), roundTrip: 200 * time.Microsecond}
		f.run(opened, opened.Add(30*time.Second))
		checkSends(t, f.sends, rate, 5)
		for _, part := range []struct{ from, to, least, most float64 }{{0, 5, 0.48, 0.6}, {0, 1, 0, 0.4}, {1, 4, 0.45, 0.65}, {5, 10, 0.96, 1.04}, {10, 30, 0.98, 1.02}} {
			n := 0.0
			for _, s := range f.sends {
				if at := s.Sub(opened).Seconds(); at >= part.from && at < part.to {
					n++
				}
			}
			all := (part.to - part.from) * rate.perSecond()
			if used := n / all; used < part.least || used > part.most+2/all { // the bucket may hold two
				t.Errorf("%v, from %v to %v s: %.2f of the rate is used, want %.2f to %.2f", rate, part.from, part.to, used, part.least, part.most)
			}
		}
	}
}
