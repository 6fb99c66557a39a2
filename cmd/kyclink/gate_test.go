package main

import (
	"encoding/json"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/account"
	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/internal/stall"
	"github.com/kyclink/kyclink/tasks"
)

// excess returns the number of calls in the fullest window of length t beyond the rate
// limit. It allows for the time by which a grant may be used late.
func excess(calls []simulator.Call, perSecond, burst float64, t time.Duration) float64 {
	most, from := 0.0, 0
	for i, c := range calls {
		for c.At.Sub(calls[from].At) > t {
			from++
		}
		most = max(most, float64(i-from+1))
	}
	return most - (perSecond*(t.Seconds()+0.1) + burst)
}

// status returns the output of `account status --json`.
func status(t testing.TB, settings []string) (s account.Status) {
	t.Helper()
	code, stdout, stderr := kyclink(t, settings, "account", "status", "--json")
	if err := json.Unmarshal([]byte(stdout), &s); err != nil || code != 0 {
		t.Fatalf("exit code %d, %v:\n%s", code, err, stderr)
	}
	return s
}

// A worker that is suspended between its grant and its call must not send the call when
// it continues, because the grant has expired.
func TestWorker_SendsNoStaleCallAfterAStop(t *testing.T) {
	t.Parallel()
	const requests, wanted = 400, 3
	server := newRedis(t)
	rdb := server.Client(t)
	sim, setting := upstream(t, `{"latency":"20ms"}`)
	// The replies of Redis that arrive meanwhile are still read when the worker continues.
	settings := []string{setting, "KYCLINK_REDIS_URL=" + server.URL + "?read_timeout=1m", "FACEKI_RATE=100/s", "FACEKI_BURST=5", "KYCLINK_LOG_LEVEL=debug"}
	client := enqueue(t, rdb, requests)
	w := start(t, settings, "worker", "--simulate")
	granted := map[string]bool{} // those whose call was not sent before a suspension
	for begun := 50; len(granted) < wanted && begun < requests-50; begun += 25 {
		fixture.Eventually(t, "the worker is under way", func() bool { return sim.State().Links > begun })
		w.signal(syscall.SIGSTOP)
		stopped := time.NewTimer(stoppedFor)
		<-stopped.C // the test is about the duration
		calls, err := rdb.ZRange(t.Context(), "{kyclink:default}:calls", 0, -1).Result()
		fixture.Must(t, err)
		for _, call := range calls {
			if id := attempt.ApplicationIDOfCall(call); sim.Application(id).Calls == 0 {
				granted[id] = true
			}
		}
		w.signal(syscall.SIGCONT)
	}
	if len(granted) == 0 {
		t.Error("the worker was never suspended between a grant and its call")
	}
	fixture.Eventually(t, "all are created", func() bool { return allCreated(links(t, client, requests)) })
	unsent := map[string]bool{}
	for line := range strings.Lines(w.stderr.String()) {
		var logged struct {
			ID     string `json:"application_id"`
			Reason string
		}
		if json.Unmarshal([]byte(line), &logged) == nil && logged.Reason == "paused" {
			unsent[logged.ID] = true
		}
	}
	for id := range granted {
		if !unsent[id] {
			t.Errorf("the call for %s was sent %v after its grant", id, stoppedFor)
		}
	}
	if got := sim.State(); got.LinkCalls != requests || got.SeveralLinks != 0 {
		t.Errorf("%d calls for %d requests, %d with several links", got.LinkCalls, requests, got.SeveralLinks)
	}
}

// While Redis is down, no call is sent without a grant. Answers that arrived are recorded
// when Redis is back, without a second call.
func TestWorker_CallsNobodyWhileRedisIsAway(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	sim, setting := upstream(t, `{"latency":"100ms"}`)
	settings := []string{setting, "KYCLINK_REDIS_URL=" + server.URL, "FACEKI_RATE=100/s", "FACEKI_BURST=10"}
	client := enqueue(t, server.Client(t), 300)
	watch := stall.New()
	defer watch.Close()
	w := start(t, settings, "worker", "--simulate")
	fixture.Eventually(t, "the worker is under way", func() bool { return sim.State().Links > 100 })
	server.Stop()
	before := sim.State().LinkCalls
	away := time.NewTimer(awayFor)
	granted := time.NewTimer(time.Second) // ten times as long as a grant may be used
	<-granted.C
	used := sim.State().LinkCalls
	// The simulator shares this process, and counts calls that arrived before as late as it stalls.
	if calls := used - before; calls > 10+int(100*watch.Longest().Seconds()) {
		t.Errorf("%d calls were begun at once after Redis stopped, more than one burst can have been granted", calls)
	}
	<-away.C // the test is about the duration
	if calls := sim.State().LinkCalls - used; calls > 0 {
		t.Errorf("%d calls were begun while Redis was away", calls)
	}
	server.Restart(t)
	fixture.Eventually(t, "all are created", func() bool { return allCreated(links(t, client, 300)) })
	if got := sim.State(); got.LinkCalls != 300 || got.SeveralLinks != 0 {
		t.Errorf("%d calls for 300 requests, %d with several links", got.LinkCalls, got.SeveralLinks)
	}
	if n := strings.Count(w.stderr.String(), "\n"); n > 60 {
		t.Errorf("%d lines were logged", n)
	}
}

func TestGate_ClosesOnWrongCredentialsOnly(t *testing.T) {
	t.Parallel()
	sim := simulator.New(simulator.Config{ClientID: "invented-id", ClientSecret: "invented-new-secret"})
	url, stop, err := sim.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	with := func(redis, secret string) []string {
		return []string{"FACEKI_BASE_URL=" + url, "FACEKI_CLIENT_ID=invented-id", "FACEKI_CLIENT_SECRET=" + secret, "KYCLINK_REDIS_URL=" + redis}
	}
	t.Run("wrong ones close the gate, and right ones open it", func(t *testing.T) {
		t.Parallel()
		server := newRedis(t)
		client := enqueue(t, server.Client(t), 20)
		wrong := start(t, with(server.URL, "invented-wrong-secret"), "worker", "--simulate")
		fixture.Eventually(t, "the gate is closed for that reason", func() bool {
			s := status(t, with(server.URL, "x"))
			return s.Gate.State == "closed" && s.Gate.Reason == "refused" && strings.Contains(s.Gate.Message, "HTTP 401")
		})
		_, text, _ := kyclink(t, with(server.URL, "x"), "account", "status")
		if !strings.Contains(text, "last error") || strings.Contains(text, "invented-wrong-secret") {
			t.Errorf("account status:\n%s", text)
		}
		wrong.signal(syscall.SIGTERM)
		wrong.exit()
		for _, l := range links(t, client, 20) {
			if l.Status.Ended() || l.PossibleDuplicates > 0 {
				t.Errorf("%+v", l)
			}
		}
		start(t, with(server.URL, "invented-new-secret"), "worker", "--simulate")
		fixture.Eventually(t, "all are created", func() bool { return allCreated(links(t, client, 20)) })
	})
	t.Run("old ones beside new ones stop nobody", func(t *testing.T) {
		t.Parallel()
		server := newRedis(t)
		client := enqueue(t, server.Client(t), 200)
		start(t, with(server.URL, "invented-old-secret"), "worker", "--simulate")
		start(t, with(server.URL, "invented-new-secret"), "worker", "--simulate")
		fixture.Eventually(t, "all are created", func() bool { return allCreated(links(t, client, 200)) })
		if s := status(t, with(server.URL, "x")); s.Gate.State != "open" {
			t.Errorf("the gate is %+v", s.Gate)
		}
	})
}

func TestToken_IsSharedByAllProcesses(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	sim, setting := upstream(t, `{}`)
	client := enqueue(t, server.Client(t), 200)
	for range 8 {
		start(t, []string{setting, "KYCLINK_REDIS_URL=" + server.URL}, "worker", "--simulate")
	}
	fixture.Eventually(t, "all are created", func() bool { return allCreated(links(t, client, 200)) })
	if n := sim.State().TokenRequests; n != 1 {
		t.Errorf("%d token requests of 8 processes", n)
	}
}

func TestAccount_IsSteeredByCommands(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	sim, setting := upstream(t, `{}`)
	settings := []string{setting, "KYCLINK_REDIS_URL=" + server.URL, "FACEKI_RATE=50/s", "FACEKI_BURST=5"}
	says := func(code int, want string, args ...string) {
		t.Helper()
		got, stdout, stderr := kyclink(t, settings, append([]string{"account"}, args...)...)
		if got != code || !strings.Contains(stdout+stderr, want) {
			t.Errorf("account %v: exit code %d, want %d and %q:\n%s%s", args, got, code, want, stdout, stderr)
		}
	}
	w := start(t, settings, "worker", "--simulate")
	fixture.Eventually(t, "the worker is there", func() bool { return status(t, settings).Workers == 1 })
	says(0, "50/s, burst 5, set by the workers", "rate")
	says(64, "is not a rate", "rate", "fast")
	says(0, "3/m, burst 5, set by kyclink account rate", "rate", "3/m")
	start(t, settings, "worker", "--simulate")
	fixture.Eventually(t, "another worker is there", func() bool { return status(t, settings).Workers == 2 })
	says(0, "3/m, burst 5, set by kyclink account rate", "rate") // it survives a worker's start
	says(0, "50/s, burst 5, set by the workers", "rate", "--reset")
	says(0, "is paused", "pause")
	client := enqueue(t, server.Client(t), 20)
	fixture.Eventually(t, "the workers have noticed", func() bool {
		return strings.Contains(w.stderr.String(), `"reason":"paused"`) || status(t, settings).Gate.Reason == "paused"
	})
	code, _, _ := kyclink(t, settings, "request", "--application-id", "A-1", "--wait=1s")
	if code != 3 || sim.State().LinkCalls != 0 {
		t.Errorf("exit code %d, %d calls while paused", code, sim.State().LinkCalls)
	}
	says(0, "open", "resume")
	fixture.Eventually(t, "all are created", func() bool { return allCreated(links(t, client, 20)) })
	if link, err := client.Wait(t.Context(), "A-1"); err != nil || link.Status != tasks.Created {
		t.Errorf("%v: %+v", err, link)
	}
	s := status(t, settings)
	if s.Upstream != "simulated" || s.Backlog.Interactive != 0 || s.Backlog.Bulk != 0 || len(s.History) != 2 {
		t.Errorf("%+v", s)
	}
}

// A waiting bulk request that is requested interactively is called first.
func TestInteractive_OvertakesItsOwnBatch(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	_, setting := upstream(t, `{}`)
	settings := []string{setting, "KYCLINK_REDIS_URL=" + server.URL, "FACEKI_RATE=20/s", "FACEKI_BURST=2"}
	client := enqueue(t, server.Client(t), 1000)
	start(t, settings, "worker", "--simulate")
	code, stdout, stderr := kyclink(t, settings, "request", "--application-id", "P-0900", "--wait=4m")
	if code != 0 {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
	if created := slices.IndexFunc(links(t, client, 1000), func(l tasks.Link) bool { return l.Status != tasks.Created }); created >= 899 {
		t.Error("the whole batch was processed first, so this test checks nothing")
	}
	if link, err := client.Get(t.Context(), "P-0900"); err != nil || link.Batch != "spring" || link.Lane != tasks.Interactive {
		t.Errorf("%v: %+v", err, link)
	}
}

// A worker logs a rate change only if it changes the rate that another worker set.
func TestWorker_LogsOnlyAChangedRate(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	_, setting := upstream(t, `{}`)
	settings := []string{setting, "KYCLINK_REDIS_URL=" + server.URL}
	for _, at := range []struct{ rate, before string }{{"100/s", ""}, {"100/s", ""}, {"90/s", "100/s"}} {
		w := start(t, append(settings, "FACEKI_RATE="+at.rate), "worker", "--simulate")
		fixture.Eventually(t, "it has started", func() bool { return strings.Contains(w.stderr.String(), "worker started") })
		told := strings.Contains(w.stderr.String(), `"from":"`+at.before+`"`)
		if said := strings.Contains(w.stderr.String(), "account rate changed"); said != (at.before != "") || said != told {
			t.Errorf("at %s after %q the log is: %s", at.rate, at.before, w.stderr.String())
		}
		w.signal(syscall.SIGTERM)
		w.exit()
	}
}
