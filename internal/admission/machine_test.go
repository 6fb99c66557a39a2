package admission

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/lua"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/internal/request"
)

func TestMain(m *testing.M) { fixture.Main(m) }

// machine is the decision, in Go or in Redis, with the time as an argument.
type machine interface {
	Admit(now time.Time, ask Ask) Decision
	Report(now time.Time, r Report)
	Beat(now time.Time, process string)
	Watch(now time.Time)
	Pause(now time.Time)
	Resume(now time.Time)
	SetRate(now time.Time, rate Rate, burst int)
	OverrideRate(now time.Time, rate Rate)
	ResetRate(now time.Time)
	changes() []Change
}

func (s *State) changes() []Change { return s.history }

// script is the decision in Redis. Its clock is the test's.
type script struct {
	t    testing.TB
	rdb  *redis.Client
	keys keyspace.Keys
	lua  *redis.Script
	// expects is what the process that asks takes the time for, in ms.
	expects int64
}

// testScript is a script whose clock comes from its last two arguments.
func testScript(t testing.TB) *redis.Script {
	const clock = "redis.call('TIME')"
	if strings.Count(request.Prelude, clock) != 1 {
		t.Fatal("the prelude reads its clock in another way than this test replaces")
	}
	return lua.Script(`
local a = ARGV
expected = tonumber(ARGV[#ARGV - 2])
if a[1] == 'admit' then
  local answer = { admit(a[2], a[3], a[4], a[5], 'nonce', a[6]) }
  store()
  return answer
end
if a[1] == 'report' then report(a[2], a[3], a[4], 'nonce', a[5], a[6], a[7], a[8], a[9]) store() end
if a[1] == 'beat' then redis.call('ZADD', tag .. ':workers', ms(now), a[2]) end
if a[1] == 'watch' then watch() end
if a[1] == 'pause' then pause() end
if a[1] == 'resume' then resume() end
if a[1] == 'set' then return set_rate(a[2], a[3], a[4]) end
if a[1] == 'override' then return override_rate(a[2], a[3]) end
if a[1] == 'reset' then return reset_rate() end
return changes`, strings.Replace(request.Prelude, clock, "{ ARGV[#ARGV - 1], ARGV[#ARGV] }", 1), Lua)
}

func onRedis(t testing.TB) *script {
	return &script{t, fixture.Redis().Client(t), keyspace.Keys{Account: redistest.Account()}, testScript(t), 0}
}

func onMiniredis(t testing.TB) *script {
	rdb := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr()})
	t.Cleanup(func() { _ = rdb.Close() })
	return &script{t, rdb, keyspace.Keys{Account: redistest.Account()}, testScript(t), 0}
}

func (s *script) run(now time.Time, args ...any) []any {
	s.t.Helper()
	us := now.UnixMicro()
	args = append(args, s.expects, us/1_000_000, us%1_000_000)
	out, err := s.lua.Run(s.t.Context(), s.rdb, []string{s.keys.Tag()}, args...).Slice()
	if err != nil {
		s.t.Fatalf("%v: %v", args, err)
	}
	return out
}

func (s *script) Admit(now time.Time, ask Ask) Decision {
	connected := 0
	if !ask.Expected.IsZero() {
		s.expects = ask.Expected.UnixMilli()
		defer func() { s.expects = 0 }()
	}
	if ask.Connected {
		connected = 1
	}
	out := s.run(now, "admit", string(ask.Lane), ask.Process, ask.Credential, ask.ID, connected)
	wait, err := strconv.ParseFloat(out[1].(string), 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return Decision{Verdict(out[0].(string)), millis(wait), out[2].(string)}
}

func (s *script) Report(now time.Time, r Report) {
	s.run(now, "report", string(r.Kind), r.ID, r.Process, r.Credential, r.Marked.UnixMilli(),
		r.RetryAfter.Milliseconds(), r.Latency.Milliseconds(), r.Message)
}

func (s *script) Beat(now time.Time, process string) { s.run(now, "beat", process) }
func (s *script) Watch(now time.Time)                { s.run(now, "watch") }

func (s *script) Pause(now time.Time)  { s.run(now, "pause") }
func (s *script) Resume(now time.Time) { s.run(now, "resume") }

func (s *script) SetRate(now time.Time, rate Rate, burst int) {
	s.run(now, "set", rate.N, rate.Per.Milliseconds(), burst)
}

func (s *script) OverrideRate(now time.Time, rate Rate) {
	s.run(now, "override", rate.N, rate.Per.Milliseconds())
}

func (s *script) ResetRate(now time.Time) { s.run(now, "reset") }

func (s *script) changes() []Change {
	lines, err := s.rdb.LRange(s.t.Context(), s.keys.Tag()+":history", 0, -1).Result()
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

// everywhere runs a test on each machine.
func everywhere(t *testing.T, test func(t *testing.T, m machine)) {
	t.Run("go", func(t *testing.T) { test(t, NewState()) })
	t.Run("redis", func(t *testing.T) { test(t, onRedis(t)) })
	t.Run("miniredis", func(t *testing.T) { test(t, onMiniredis(t)) })
}

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
