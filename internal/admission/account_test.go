package admission

import (
	"encoding/json"
	"errors"
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

// onClock decides with the scripts as in production, on Redis' clock.
type onClock struct {
	t                         testing.TB
	rdb                       *redis.Client
	keys                      keyspace.Keys
	admitScript, reportScript *lua.Script
}

func newOnClock(t testing.TB) *onClock {
	return &onClock{
		t, fixture.Redis().Client(t), keyspace.Keys{Account: redistest.Account()},
		Lua.Text("test.lua", "-- uses: gate_state, admission\nlocal decision = { admit_call(ARGV[1], ARGV[2], ARGV[3], ARGV[4], 'nonce', ARGV[5]) } store_gate() return decision"),
		Lua.Text("test.lua", "-- uses: clock, gate_state, signals\nreport_signal(ARGV[1], ARGV[2], ARGV[3], 'nonce', ARGV[4], now, 0, 50) store_gate() return #changes"),
	}
}

func (c *onClock) admit(lane request.Lane, id string) string {
	c.t.Helper()
	out, err := c.admitScript.RunList(c.t.Context(), c.rdb, []string{c.keys.Tag()}, []any{string(lane), "1", "fp", id, "0"}).StringSlice()
	if err != nil {
		c.t.Fatal(err)
	}
	return out[0]
}

// report reports an outcome, and returns the number of changes of the gate.
func (c *onClock) report(signal Signal, id string) int {
	c.t.Helper()
	n, err := c.reportScript.RunList(c.t.Context(), c.rdb, []string{c.keys.Tag()}, []any{string(signal), id, "1", "fp"}).Int()
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

func TestRead_ReturnsEachChangeOfGateAndRate(t *testing.T) {
	c := newOnClock(t)
	a := NewAccount(c.rdb, c.keys.Account)
	fresh, err := json.Marshal(c.status())
	want := `{"gate":{"state":"open","reason":""},"rate":{"limit":"5/s","burst":5,"overridden":false,"used":0},` +
		`"calls":0,"lines":{"bulk":0,"interactive":0},"history":[]}`
	if err != nil || string(fresh) != want {
		t.Errorf("status of an unused account: %s, %v\nwant %s", fresh, err, want)
	}

	if before, burst, err := c.setRate(Rate{1, time.Minute}, 3); err != nil || before != (Rate{}) || burst != 0 {
		t.Errorf("the first worker's rate replaced %v with burst %d (%v), want none", before, burst, err)
	}
	if before, err := a.OverrideRate(t.Context(), Rate{90_000, time.Second}, 0); err != nil || before.String() != "1/m" {
		t.Errorf("the override replaced %v (%v), want 1/m", before, err)
	}
	for i := range 4 {
		if v := c.admit(request.Bulk, fmt.Sprint("A-", i)); v != "grant" {
			t.Fatalf("the verdict on call %d is %s, want grant", i, v)
		}
	}
	if before, burst, err := c.setRate(Rate{1, time.Minute}, 3); err != nil || before.String() != "1/m" || burst != 3 {
		t.Errorf("the second worker's rate replaced a worker's %v with burst %d (%v), want 1/m with 3", before, burst, err)
	}
	if before, err := a.ResetRate(t.Context()); err != nil || before.String() != "90000/s" {
		t.Errorf("the reset replaced %v (%v), want 90000/s", before, err)
	}
	for range 4 {
		c.admit(request.Bulk, "B-1")
	}
	if n := c.report(NoCredit, "A-0"); n != 1 {
		t.Errorf("no credit caused %d changes of the gate, want 1", n)
	}
	c.report(Refused, "A-1")
	s := c.status()
	if s.Gate.State != "closed" || s.Gate.Reason != "no_credit" || s.Gate.NextProbe.Sub(s.Gate.Since) != time.Minute {
		t.Errorf("gate without credit: %+v", s.Gate)
	}
	if s.Rate.Limit != "1/m" || s.Rate.Burst != 3 || s.Rate.Overridden || s.Lines[request.Bulk] != 1 || s.Calls < 2 {
		t.Errorf("rate, waiting processes or calls in flight: %+v", s)
	}
	if len(s.Refused) != 1 || s.Refused[0].Credential != "fp" || len(s.History) != 2 || s.History[1].Reason != "refused" {
		t.Errorf("refused credentials: %+v, history: %+v", s.Refused, s.History)
	}

	if err := errors.Join(a.Pause(t.Context(), "ann", ""), a.Resume(t.Context())); err != nil {
		t.Fatal(err)
	}
	if s = c.status(); s.Gate.Reason != "no_credit" || s.Gate.NextProbe.After(s.History[3].At) {
		t.Errorf("after a pause and a resume: %+v, want a probe at once", s)
	}
}

func TestRead_AveragesTheUsedRateOverTenSeconds(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	f := fields{"n": "5", "per": "1000", "burst": "5", "over:n": "5"}
	for age, count := range []int{50, 7, 8, 9, 5, 5, 5, 5, 5, 5, 6, 90} { // in this second, 1 s ago …
		f["used:"+fmt.Sprint((now.Unix()-int64(age))%11)] = fmt.Sprint(now.Unix()-int64(age), " ", count)
	}
	f["used:"+fmt.Sprint(now.Unix()%11)] = fmt.Sprint(now.Unix(), " ", 50)
	if r := f.rate(now); fmt.Sprintf("%.1f", r.Used) != "6.0" || !r.Overridden {
		t.Errorf("rate %+v, want 6.0/s used and overridden", r)
	}
}

func TestRead_ShowsProbesAndRampsWhileTheyLast(t *testing.T) {
	at := func(s int) string { return fmt.Sprint(start.Add(time.Duration(s) * time.Second).UnixMilli()) }
	for _, tt := range []struct {
		name   string
		fields fields
		want   string
	}{
		{"probing", fields{"state": "closed", "reason": "outage", "since": at(-9), "prober": "1", "by": at(3), "next": at(-1)}, "probing outage -9s"},
		{"probe given up", fields{"state": "closed", "reason": "outage", "since": at(-9), "prober": "1", "by": at(-3), "next": at(-4)}, "closed outage -9s"},
		{"ramping", fields{"state": "ramping", "since": at(-4), "opened": at(-4)}, "ramping  -4s"},
		{"ramp over", fields{"state": "ramping", "since": at(-20), "opened": at(-20)}, "open  -15s"},
	} {
		g := tt.fields.gate(start)
		if got := fmt.Sprint(g.State, " ", g.Reason, " ", g.Since.Sub(start)); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// setRate sets the rate of a worker that joins, and returns what a worker set before.
func (c *onClock) setRate(rate Rate, burst int) (before Rate, beforeBurst int, err error) {
	c.t.Helper()
	old, err := Lua.Text("test.lua", "-- uses: worker_rate\nreturn set_rate(ARGV[1], ARGV[2], ARGV[3])").
		RunList(c.t.Context(), c.rdb, []string{c.keys.Tag()}, []any{rate.N, rate.Per.Milliseconds(), burst}).Int64Slice()
	if err != nil {
		return Rate{}, 0, err
	}
	return Rate{int(old[0]), time.Duration(old[1]) * time.Millisecond}, int(old[2]), nil
}

// TestScripts_RunFewCommands lists the Redis commands of each decision and report, except
// TIME. It does not run in parallel, because it reads counters of the shared server.
func TestScripts_RunFewCommands(t *testing.T) {
	m, now := onRedis(t), start
	expect := func(name, want string, do func()) {
		t.Helper()
		before := commands(t, m.rdb)
		do()
		var names []string
		for command, n := range commands(t, m.rdb) {
			for range n - before[command] {
				names = append(names, command)
			}
		}
		slices.Sort(names)
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s: commands %s, want %s", name, got, want)
		}
	}
	admit := func(lane request.Lane, process string, want Verdict) func() {
		return func() {
			t.Helper()
			if d := m.Admit(now, Query{Lane: lane, Process: process, Credential: "fp", ID: "A-1"}); d.Verdict != want {
				t.Fatalf("the decision is %+v, want %s", d, want)
			}
		}
	}
	report := func(signal Signal) func() {
		return func() { m.Report(now, Report{Signal: signal, ID: "A-1", Process: "1", Credential: "fp", Began: now}) }
	}
	m.SetRate(now, Rate{5, time.Second}, 3)
	admit(request.Bulk, "1", Wait)()
	now = now.Add(10 * time.Second)
	report(Success)()

	expect("bulk call, granted at once", "hmget hset zadd", admit(request.Bulk, "1", Grant))
	expect("interactive call, granted at once", "hmget hset zadd", admit(request.Interactive, "1", Grant))
	expect("interactive call, granted at once", "hmget hset zadd", admit(request.Interactive, "1", Grant))
	expect("interactive call, must wait", "hmget hset zadd", admit(request.Interactive, "1", Wait))
	expect("interactive call, waits on", "hmget zrange", admit(request.Interactive, "1", Wait))
	expect("bulk call, must wait", "hmget hset zadd zrange", admit(request.Bulk, "1", Wait))
	expect("bulk call, waits on", "hmget zrange zrange", admit(request.Bulk, "1", Wait))
	now = now.Add(200 * time.Millisecond)
	expect("interactive call, granted after a wait", "hmget hset zadd zrange zrem", admit(request.Interactive, "1", Grant))
	now = now.Add(500 * time.Millisecond)
	expect("bulk call, granted after a wait", "hmget hset zadd zrange zrem", admit(request.Bulk, "1", Grant))
	now = now.Add(5 * time.Second)
	expect("bulk call, granted after a pause", "hmget hset zadd", admit(request.Bulk, "1", Grant))
	expect("success", "hmget hset zrem", report(Success))
	expect("fault", "hmget hset zrem", report(Outage))
	expect("fault that closes the gate", "hmget hmget hset llen ltrim rpush rpush zrem", report(NoCredit))
	expect("bulk call, gate closed", "hmget hmget", admit(request.Bulk, "1", Wait))
	expect("interactive call, gate closed", "hmget hmget hset", admit(request.Interactive, "1", Wait))
}

// commands returns how often Redis has run each command, except those that run scripts.
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
		c.admit(request.Bulk, "A-1")
	}
	b.ReportMetric(c.scriptMicros(), "µs/script")
}

// scriptMicros returns the mean time of a script in Redis, over all that it ran.
func (c *onClock) scriptMicros() float64 {
	info := c.rdb.Info(c.t.Context(), "commandstats").Val()
	_, stats, _ := strings.Cut(info, "cmdstat_evalsha:")
	_, stats, _ = strings.Cut(stats, "usec_per_call=")
	var us float64
	fmt.Sscanf(stats, "%g", &us)
	return us
}
