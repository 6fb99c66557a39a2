package admission

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/lua"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/internal/request"
)

// onClock is the decision in Redis as it runs in production, on Redis' clock.
type onClock struct {
	t             testing.TB
	rdb           *redis.Client
	keys          keyspace.Keys
	admit, report *lua.Script
}

func newOnClock(t testing.TB) *onClock {
	return &onClock{
		t, fixture.Redis().Client(t), keyspace.Keys{Account: redistest.Account()},
		Lua.Text("test.lua", "-- uses: gate_state, admission\nlocal answer = { admit_call(ARGV[1], ARGV[2], ARGV[3], ARGV[4], 'nonce', ARGV[5]) } store_gate() return answer"),
		Lua.Text("test.lua", "-- uses: clock, gate_state, signals\nreport(ARGV[1], ARGV[2], ARGV[3], 'nonce', ARGV[4], now, 0, 50) store_gate() return #changes"),
	}
}

func (c *onClock) ask(lane request.Lane, id string) string {
	c.t.Helper()
	out, err := c.admit.RunList(c.t.Context(), c.rdb, []string{c.keys.Tag()}, []any{string(lane), "1", "fp", id, "0"}).StringSlice()
	if err != nil {
		c.t.Fatal(err)
	}
	return out[0]
}

func (c *onClock) tell(kind Kind, id string) int {
	c.t.Helper()
	n, err := c.report.RunList(c.t.Context(), c.rdb, []string{c.keys.Tag()}, []any{string(kind), id, "1", "fp"}).Int()
	if err != nil {
		c.t.Fatal(err)
	}
	return n
}

func (c *onClock) status() Status {
	c.t.Helper()
	s, err := Read(c.t.Context(), c.rdb, c.keys)
	if err != nil {
		c.t.Fatal(err)
	}
	return s
}

func TestStatus(t *testing.T) {
	c := newOnClock(t)
	a := NewAccount(c.rdb, c.keys.Account)
	fresh, err := json.Marshal(c.status())
	want := `{"gate":{"state":"open","reason":""},"rate":{"limit":"5/s","burst":5,"overridden":false,"used":0},` +
		`"calls":0,"lines":{"bulk":0,"interactive":0},"history":[]}`
	if err != nil || string(fresh) != want {
		t.Errorf("nobody used it: %s, %v", fresh, err)
	}

	if before, burst, err := c.setRate(Rate{1, time.Minute}, 3); err != nil || before != (Rate{}) || burst != 0 {
		t.Errorf("before: %v, %d, %v", before, burst, err)
	}
	if before, err := a.OverrideRate(t.Context(), Rate{90_000, time.Second}); err != nil || before.String() != "1/m" {
		t.Errorf("before: %v, %v", before, err)
	}
	for i := range 4 {
		if v := c.ask(request.Bulk, fmt.Sprint("A-", i)); v != "grant" {
			t.Fatalf("ask %d: %s", i, v)
		}
	}
	if before, burst, err := c.setRate(Rate{1, time.Minute}, 3); err != nil || before.String() != "1/m" || burst != 3 {
		t.Errorf("a worker's, before: %v, %d, %v", before, burst, err)
	}
	if before, err := a.ResetRate(t.Context()); err != nil || before.String() != "90000/s" {
		t.Errorf("before: %v, %v", before, err)
	}
	for range 4 {
		c.ask(request.Bulk, "B-1")
	}
	if n := c.tell(NoCredit, "A-0"); n != 1 {
		t.Errorf("%d changes of the gate; want one", n)
	}
	c.tell(Refused, "A-1")
	s := c.status()
	if s.Gate.State != "closed" || s.Gate.Reason != "no_credit" || s.Gate.NextProbe.Sub(s.Gate.Since) != time.Minute {
		t.Errorf("gate: %+v", s.Gate)
	}
	if s.Rate.Limit != "1/m" || s.Rate.Burst != 3 || s.Rate.Overridden || s.Lines[request.Bulk] != 1 || s.Calls < 2 {
		t.Errorf("%+v", s)
	}
	if len(s.Refused) != 1 || s.Refused[0].Credential != "fp" || len(s.History) != 2 || s.History[1].Reason != "refused" {
		t.Errorf("%+v, history %+v", s.Refused, s.History)
	}

	for _, step := range []func() error{
		func() error { return a.Pause(t.Context()) }, func() error { return a.Resume(t.Context()) },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	if s = c.status(); s.Gate.Reason != "no_credit" || s.Gate.NextProbe.After(s.History[3].At) {
		t.Errorf("after a resume: %+v", s)
	}
}

// TestUsedRate reads what seconds before this one counted.
func TestUsedRate(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	f := fields{"n": "5", "per": "1000", "burst": "5", "over:n": "5"}
	for age, count := range []int{50, 7, 8, 9, 5, 5, 5, 5, 5, 5, 6, 90} { // now, 1 s ago …
		f["used:"+fmt.Sprint((now.Unix()-int64(age))%11)] = fmt.Sprint(now.Unix()-int64(age), " ", count)
	}
	f["used:"+fmt.Sprint(now.Unix()%11)] = fmt.Sprint(now.Unix(), " ", 50)
	if r := f.rate(now); fmt.Sprintf("%.1f", r.Used) != "6.0" || !r.Overridden {
		t.Errorf("%+v", r)
	}
}

func TestStatusOfProbeAndRamp(t *testing.T) {
	at := func(s int) string { return fmt.Sprint(start.Add(time.Duration(s) * time.Second).UnixMilli()) }
	for _, tt := range []struct {
		name string
		f    fields
		want string
	}{
		{"probing", fields{"state": "closed", "reason": "outage", "since": at(-9), "prober": "1", "by": at(3), "next": at(-1)}, "probing outage -9s"},
		{"given up", fields{"state": "closed", "reason": "outage", "since": at(-9), "prober": "1", "by": at(-3), "next": at(-4)}, "closed outage -9s"},
		{"ramping", fields{"state": "ramping", "since": at(-9), "opened": at(-9)}, "ramping  -9s"},
		{"over", fields{"state": "ramping", "since": at(-20), "opened": at(-20)}, "open  -5s"},
	} {
		g := tt.f.gate(start)
		if got := fmt.Sprint(g.State, " ", g.Reason, " ", g.Since.Sub(start)); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// setRate is what a worker that joins does.
func (c *onClock) setRate(rate Rate, burst int) (before Rate, beforeBurst int, err error) {
	c.t.Helper()
	old, err := Lua.Text("test.lua", "-- uses: worker_rate\nreturn set_rate(ARGV[1], ARGV[2], ARGV[3])").
		RunList(c.t.Context(), c.rdb, []string{c.keys.Tag()}, []any{rate.N, rate.Per.Milliseconds(), burst}).Int64Slice()
	if err != nil {
		return Rate{}, 0, err
	}
	return Rate{int(old[0]), time.Duration(old[1]) * time.Millisecond}, int(old[2]), nil
}

// TestCommandsAreFew counts what an ask and a report cost Redis, beyond TIME.
func TestCommandsAreFew(t *testing.T) {
	m, now := onRedis(t), start
	count := func(what, want string, do func()) {
		t.Helper()
		before := commands(t, m.rdb)
		do()
		var names []string
		for name, n := range commands(t, m.rdb) {
			for range n - before[name] {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	ask := func(lane request.Lane, process string, want Verdict) func() {
		return func() {
			t.Helper()
			if d := m.Admit(now, Query{Lane: lane, Process: process, Credential: "fp", ID: "A-1"}); d.Verdict != want {
				t.Fatalf("%+v, want %s", d, want)
			}
		}
	}
	tell := func(kind Kind) func() {
		return func() { m.Report(now, Report{Kind: kind, ID: "A-1", Process: "1", Credential: "fp", Began: now}) }
	}
	m.SetRate(now, Rate{5, time.Second}, 3)
	ask(request.Bulk, "1", Wait)()
	now = now.Add(10 * time.Second)
	tell(Success)()

	count("bulk, at once", "hmget hset zadd", ask(request.Bulk, "1", Grant))
	count("interactive, at once", "hmget hset zadd", ask(request.Interactive, "1", Grant))
	count("interactive, at once", "hmget hset zadd", ask(request.Interactive, "1", Grant))
	count("interactive, enters its line", "hmget hset zadd", ask(request.Interactive, "1", Wait))
	count("interactive, keeps its place", "hmget zrange", ask(request.Interactive, "1", Wait))
	count("bulk, enters its line", "hmget hset zadd zrange", ask(request.Bulk, "1", Wait))
	count("bulk, keeps its place", "hmget zrange zrange", ask(request.Bulk, "1", Wait))
	now = now.Add(200 * time.Millisecond)
	count("interactive, in its turn", "hmget hset zadd zrange zrem", ask(request.Interactive, "1", Grant))
	now = now.Add(500 * time.Millisecond)
	count("bulk, in its turn", "hmget hset zadd zrange zrem", ask(request.Bulk, "1", Grant))
	now = now.Add(5 * time.Second)
	count("after a while", "hmget hset zadd", ask(request.Bulk, "1", Grant))
	count("a success", "hmget hset zrem", tell(Success))
	count("a fault", "hmget hset zrem", tell(Outage))
	count("a change", "hmget hmget hset ltrim ltrim rpush rpush zrem", tell(NoCredit))
	count("behind a closed gate", "hmget hmget", ask(request.Bulk, "1", Wait))
	count("the same, interactive", "hmget hmget hset", ask(request.Interactive, "1", Wait))
}

// commands reads how often Redis ran each command that scripts use.
func commands(t *testing.T, rdb *redis.Client) map[string]int {
	info, err := rdb.Info(t.Context(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int{}
	for line := range strings.Lines(info) {
		name, stats, _ := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":calls=")
		n := 0
		if _, err := fmt.Sscanf(stats, "%d", &n); err == nil && !slices.Contains([]string{"info", "eval", "evalsha"}, name) {
			out[name] = n
		}
	}
	return out
}

func BenchmarkAdmit(b *testing.B) {
	c := newOnClock(b)
	if _, _, err := c.setRate(Rate{100_000, time.Second}, 5); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		c.ask(request.Bulk, "A-1")
	}
	b.ReportMetric(c.scriptMicros(), "µs/script")
}

// scriptMicros is Redis' own time for a script, on average over all that it ran.
func (c *onClock) scriptMicros() float64 {
	info := c.rdb.Info(c.t.Context(), "commandstats").Val()
	_, stats, _ := strings.Cut(info, "cmdstat_evalsha:")
	_, stats, _ = strings.Cut(stats, "usec_per_call=")
	var us float64
	fmt.Sscanf(stats, "%g", &us)
	return us
}
