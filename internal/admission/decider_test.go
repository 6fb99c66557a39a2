package admission

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/lua"
	"github.com/kyclink/kyclink/internal/redistest"
)

func TestMain(m *testing.M) { fixture.Main(m) }

// decider is an implementation of admission: the model in Go, or the scripts in Redis. The
// time is an argument of each method.
type decider interface {
	Admit(now time.Time, query Query) Decision
	Report(now time.Time, r Report)
	Heartbeat(now time.Time, process string)
	Watch(now time.Time)
	Pause(now time.Time)
	Resume(now time.Time)
	SetRate(now time.Time, rate Rate, burst int)
	OverrideRate(now time.Time, rate Rate, burst int)
	ResetRate(now time.Time)
	changes() []Change
}

func (s *Model) changes() []Change { return s.history }

// scripts decides with the scripts of the package, on the test's clock.
type scripts struct {
	t      testing.TB
	rdb    *redis.Client
	keys   keyspace.Keys
	byName map[string]*lua.Script
	// expected is the time of Redis that the asking process expects, in ms, or 0.
	expected int64
}

// withTestClock returns the scripts of the package with the clock of a test. Their last
// three arguments are the time that the process expects (ms), and the clock (s and µs).
var withTestClock = sync.OnceValues(func() (map[string]*lua.Script, error) {
	files := fstest.MapFS{}
	for name, replace := range map[string][2]string{
		"clock.lua":      {"redis.call('TIME')", "{ ARGV[#ARGV - 1], ARGV[#ARGV] }"},
		"clock_step.lua": {"local expected, MAX_DRIFT = 0, ", "local expected, MAX_DRIFT = tonumber(ARGV[#ARGV - 2]), "},
	} {
		text, err := os.ReadFile(filepath.Join("..", "lua", name))
		if err != nil {
			return nil, err
		}
		if strings.Count(string(text), replace[0]) != 1 {
			return nil, fmt.Errorf("replace the clock in %s: it does not contain %q once", name, replace[0])
		}
		files[name] = &fstest.MapFile{Data: []byte(strings.Replace(string(text), replace[0], replace[1], 1))}
	}
	all := lua.NewPackage("test", files, Lua)
	return map[string]*lua.Script{
		"pause": all.Script("pause.lua"), "resume": all.Script("resume.lua"),
		"override": all.Script("override_rate.lua"), "reset": all.Script("reset_rate.lua"),
		"set":       all.Text("set.lua", "-- uses: worker_rate\nreturn set_rate(ARGV[1], ARGV[2], ARGV[3])"),
		"watch":     all.Text("watch.lua", "-- uses: gate_state, watch\nwatch() return changes"),
		"heartbeat": all.Text("heartbeat.lua", "-- uses: keys, clock\nredis.call('ZADD', tag .. ':workers', ms(now), ARGV[1]) return {}"),
		"admit": all.Text("admit.lua", `-- uses: gate_state, admission
			local lane, process, credential, id, connected = unpack(ARGV)
			local answer = { admit_call(lane, process, credential, id, 'nonce', connected) }
			store_gate()
			return answer`),
		"report": all.Text("report.lua", `-- uses: gate_state, signals
			local signal, id, process, credential, began, retry_after, latency, message = unpack(ARGV)
			report_signal(signal, id, process, 'nonce', credential, began, retry_after, latency, message)
			store_gate()
			return changes`),
	}, nil
})

func newScripts(t testing.TB, rdb *redis.Client) *scripts {
	t.Helper()
	byName, err := withTestClock()
	fixture.Must(t, err)
	return &scripts{t, rdb, keyspace.Keys{Account: redistest.Account()}, byName, 0}
}

func onRedis(t testing.TB) *scripts {
	t.Helper()
	return newScripts(t, fixture.Redis().Client(t))
}

func onMiniredis(t testing.TB) *scripts {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr()})
	t.Cleanup(func() { _ = rdb.Close() })
	return newScripts(t, rdb)
}

func (s *scripts) run(now time.Time, name string, args ...any) []any {
	s.t.Helper()
	us := now.UnixMicro()
	args = append(args, s.expected, us/1_000_000, us%1_000_000)
	cmd := s.byName[name].RunList(s.t.Context(), s.rdb, []string{s.keys.Tag()}, args)
	if err := cmd.Err(); err != nil {
		s.t.Fatalf("script %s with %v: %v", name, args, err)
	}
	out, _ := cmd.Val().([]any) // pause and resume return a string
	return out
}

func (s *scripts) Admit(now time.Time, query Query) Decision {
	connected := 0
	if !query.Expected.IsZero() {
		s.expected = query.Expected.UnixMilli()
		defer func() { s.expected = 0 }()
	}
	if query.Connected {
		connected = 1
	}
	out := s.run(now, "admit", string(query.Lane), query.Process, query.Credential, query.ID, connected)
	wait, err := strconv.ParseFloat(out[1].(string), 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return Decision{Verdict(out[0].(string)), millis(wait), out[2].(string)}
}

func (s *scripts) Report(now time.Time, r Report) {
	s.run(now, "report", string(r.Signal), r.ID, r.Process, r.Credential, r.Began.UnixMilli(),
		r.RetryAfter.Milliseconds(), r.Latency.Milliseconds(), r.Message)
}

func (s *scripts) Heartbeat(now time.Time, process string) { s.run(now, "heartbeat", process) }
func (s *scripts) Watch(now time.Time)                     { s.run(now, "watch") }

func (s *scripts) Pause(now time.Time)  { s.run(now, "pause", "ann", "") }
func (s *scripts) Resume(now time.Time) { s.run(now, "resume") }

func (s *scripts) SetRate(now time.Time, rate Rate, burst int) {
	s.run(now, "set", rate.N, rate.Per.Milliseconds(), burst)
}

func (s *scripts) OverrideRate(now time.Time, rate Rate, burst int) {
	s.run(now, "override", rate.N, rate.Per.Milliseconds(), burst)
}

func (s *scripts) ResetRate(now time.Time) { s.run(now, "reset") }

func (s *scripts) changes() []Change {
	lines, err := s.rdb.LRange(s.t.Context(), s.keys.Tag()+":history", -50, -1).Result()
	if err != nil {
		s.t.Fatal(err)
	}
	var out []Change
	for _, l := range lines {
		f := strings.SplitN(l, " ", 3)
		at, err := strconv.ParseFloat(f[0], 64)
		if err != nil {
			s.t.Fatal(err)
		}
		out = append(out, Change{at, f[1], f[2]})
	}
	return out
}

// onEachDecider runs a test with each implementation.
func onEachDecider(t *testing.T, test func(t *testing.T, m decider)) {
	t.Run("model", func(t *testing.T) { test(t, NewModel()) })
	t.Run("redis", func(t *testing.T) { test(t, onRedis(t)) })
	t.Run("miniredis", func(t *testing.T) { test(t, onMiniredis(t)) })
}

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
