package main

import (
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/tasks"
)

// enqueue enqueues n bulk requests, P-0001 and following.
func enqueue(t testing.TB, rdb redis.UniversalClient, n int) *tasks.Client {
	t.Helper()
	client := tasks.NewClient(rdb, tasks.Config{})
	requests := make([]tasks.Request, n)
	for i := range requests {
		requests[i].ApplicationID = fmt.Sprintf("P-%04d", i+1)
	}
	if err := client.EnqueueAll(t.Context(), tasks.Batch{Name: "spring"}, tasks.Rows(requests), func(r tasks.Result) {
		if r.Err != nil {
			t.Error(r.Err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	return client
}

// links returns the links of the requests of [enqueue].
func links(t testing.TB, client *tasks.Client, n int) []tasks.Link {
	t.Helper()
	reqs := make([]tasks.Request, n)
	for i := range reqs {
		reqs[i].ApplicationID = fmt.Sprintf("P-%04d", i+1)
		reqs[i].Lane = tasks.Bulk
	}
	answers, err := client.Preview(t.Context(), reqs)
	if err != nil {
		t.Fatal(err)
	}
	out := make([]tasks.Link, n)
	for i, a := range answers {
		if a.Err != nil {
			t.Fatal(a.Err)
		}
		out[i] = a.Link
	}
	return out
}

func allCreated(all []tasks.Link) bool {
	return !slices.ContainsFunc(all, func(l tasks.Link) bool { return l.Status != tasks.Created })
}

func TestWorkers_CreateOneLinkEach(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	sim, setting := upstream(t, `{"latency":"5ms"}`)
	settings := []string{setting, "KYCLINK_REDIS_URL=" + server.URL}
	client := enqueue(t, server.Client(t), 1000)
	var workers []*process
	for range 2 {
		workers = append(workers, start(t, settings, "worker", "--simulate"))
	}
	fixture.Eventually(t, "all are created", func() bool { return allCreated(links(t, client, 1000)) })
	if got := sim.State(); got.Links != 1000 || got.SeveralLinks != 0 || got.LinkCalls != 1000 {
		t.Errorf("%+v for 1000 requests", got)
	}
	for _, w := range workers {
		w.signal(syscall.SIGTERM)
		if code := w.exit(); code != 0 {
			t.Errorf("a worker that was stopped softly exits with %d:\n%s", code, w.stderr.String())
		}
	}
	events, err := server.Client(t).XRange(t.Context(), "{kyclink:default}:results", "-", "+").Result()
	if err != nil || len(events) != 1000 {
		t.Errorf("%d events, %v", len(events), err)
	}
}

// A worker that is killed while it waits has no call in flight, so that no outcome is
// uncertain.
func TestWorker_KilledWhileWaitingLeavesNoUncertainOutcome(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		script string
		waits  func(*redis.Client) bool
	}{
		"for a token": {`{"token_fault":"hang"}`, nil},
		"for FaceKi to recover": {`{"rules":[{"match":"*","fault":"http_503"}]}`, func(rdb *redis.Client) bool {
			return rdb.HGet(t.Context(), "{kyclink:default}:gate", "state").Val() == "closed" && rdb.ZCard(t.Context(), "{kyclink:default}:calls").Val() == 0
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := newRedis(t)
			sim, setting := upstream(t, c.script)
			settings := []string{setting, "KYCLINK_REDIS_URL=" + server.URL}
			rdb := server.Client(t)
			client := enqueue(t, rdb, 20)
			w := start(t, settings, "worker", "--simulate")
			fixture.Eventually(t, "the worker waits", func() bool {
				if c.waits != nil {
					return c.waits(rdb)
				}
				return sim.State().TokenRequests > 0
			})
			w.kill()
			disconnected(t, rdb)
			for _, l := range links(t, client, 20) {
				if l.Status == tasks.Calling || l.PossibleDuplicates != 0 {
					t.Errorf("%+v", l)
				}
			}
			script := sim.Script()
			script.Rules, script.TokenFault = nil, nil
			if err := sim.SetScript(script); err != nil {
				t.Fatal(err)
			}
			_, err := client.Enqueue(t.Context(), tasks.Request{ApplicationID: "P-0001"}) // the request becomes interactive
			if err != nil {
				t.Fatal(err)
			}
			start(t, settings, "worker", "--simulate")
			link, err := client.Wait(t.Context(), "P-0001")
			if err != nil || link.Status != tasks.Created || link.PossibleDuplicates != 0 {
				t.Errorf("%v: %+v", err, link)
			}
		})
	}
}

func TestRequest_CreatesALinkThatShowPrints(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	_, setting := upstream(t, `{"rules":[{"match":"BAD-*","fault":"code_5002"},{"match":"HELD-*","fault":"no_url"}]}`)
	settings := []string{setting, "KYCLINK_REDIS_URL=" + server.URL}
	expect := func(code int, stdout, stderr string, args ...string) string {
		t.Helper()
		gotCode, gotOut, gotErr := kyclink(t, settings, args...)
		if gotCode != code || !strings.Contains(gotOut, stdout) || !strings.Contains(gotErr, stderr) {
			t.Errorf("%v: exit code %d, want %d\nstdout: %s\nstderr: %s", args, gotCode, code, gotOut, gotErr)
		}
		return gotOut
	}
	expect(0, "A-1 queued\n", "", "request", "--application-id", "A-1")
	expect(3, "", `A-1 is still queued after 100ms: No worker is running for account "default"; 1 request waits. What to do: start one: kyclink worker.`, "request", "--application-id", "A-1", "--wait=100ms")
	expect(0, "No worker is running", "", "show", "A-1")
	expect(0, `"diagnosis":{"state":"stuck","code":"no_worker"`, "", "show", "A-1", "--json")
	expect(1, "", "no request has this application ID", "show", "A-9")
	start(t, settings, "worker", "--simulate")

	url := expect(0, "https://simulator.invalid/", "", "request", "--application-id", "A-1", "--wait=4m") // the worker is starting
	if lines := strings.Count(url, "\n"); lines != 1 {
		t.Errorf("%d lines, want the URL alone: %q", lines, url)
	}
	if again := expect(0, "https://", "", "request", "--application-id", "A-1", "--wait"); again != url {
		t.Errorf("the second request got %q after %q", again, url)
	}
	var link tasks.Link
	if err := json.Unmarshal([]byte(expect(0, "{", "", "request", "--application-id", "A-1", "--wait", "--json")), &link); err != nil || link.URL+"\n" != url {
		t.Errorf("%v: %+v", err, link)
	}
	expect(2, "", "conflict: A-1 was requested before with different values of redirect_url", "request", "--application-id", "A-1", "--redirect-url", "https://shop.example/")
	expect(2, "", "generation_gap: the latest generation of A-1 is 1: the next one is 2, not 3", "request", "--application-id", "A-1", "--generation", "3")
	expect(64, "", "--redirect-url must start with https://", "request", "--application-id", "a b", "--redirect-url", "http://shop.example/")
	expect(64, "", "--application-id is required", "request")
	expect(64, "", "write --wait=5s", "request", "--application-id", "A-1", "--wait", "5s")
	expect(64, "", "give the person's ID with --application-id", "request", "A-1")
	if stdout := expect(2, "", "BAD-1 is failed (invalid_request", "request", "--application-id", "BAD-1", "--wait"); stdout != "" {
		t.Errorf("standard output is %q", stdout)
	}
	expect(2, "", "HELD-1 is held (unusable_answer", "request", "--application-id", "HELD-1", "--wait")
	expect(0, "unusable_answer", "", "show", "HELD-1")

	next := expect(0, "https://", "", "request", "--application-id", "A-1", "--generation", "2", "--wait")
	if next == url {
		t.Error("the next generation has the same link")
	}
	var s struct {
		tasks.Link
		Generations []tasks.Link
	}
	if err := json.Unmarshal([]byte(expect(0, "{", "", "show", "A-1", "--json")), &s); err != nil ||
		s.Generation != 2 || len(s.Generations) != 1 || s.Generations[0].URL+"\n" != url {
		t.Errorf("%v: %+v", err, s)
	}
	expect(0, "generation 1", "", "show", "A-1")
}

func TestSettings_ProblemsAreExplainedAtStart(t *testing.T) {
	t.Parallel()
	refused := func(name string, settings []string, code int, says ...string) {
		t.Run(name, func(t *testing.T) {
			got, stdout, stderr := kyclink(t, settings, "worker")
			if got != code || stdout != "" {
				t.Errorf("exit code %d, want %d; stdout %q", got, code, stdout)
			}
			for _, text := range says {
				if !strings.Contains(stderr, text) {
					t.Errorf("the output lacks %q:\n%s", text, stderr)
				}
			}
		})
	}
	refused("many at once", []string{
		"KYCLINK_ACCOUNT=Not Good", "KYCLINK_REDIS_MODE=cluster", "KYCLINK_MAX_ATTEMPTS=many", "KYCLINK_EXPIRY_MINUTES=",
		"FACEKI_CLIENT_SECRET=invented", "FACEKI_BASE_URL=http://faceki.example", "KYCLINK_LOG_LEVEL=loud", "FACEKI_TIMEOUT=0s",
	}, 78, "KYCLINK_ACCOUNT", "KYCLINK_REDIS_MODE", "KYCLINK_REDIS_URL", "KYCLINK_MAX_ATTEMPTS", "KYCLINK_EXPIRY_MINUTES",
		"FACEKI_CLIENT_ID", "FACEKI_BASE_URL", "KYCLINK_LOG_LEVEL", "FACEKI_TIMEOUT")

	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	away := taken.Addr().String()
	_ = taken.Close()
	refused("Redis is away", []string{"FACEKI_CLIENT_ID=invented", "FACEKI_CLIENT_SECRET=invented", "KYCLINK_REDIS_URL=redis://user:invented-password@" + away}, 1, away, "KYCLINK_REDIS_URL")

	evicting := redistest.Start(t, "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
	refused("no credentials", []string{"KYCLINK_REDIS_URL=" + evicting.URL}, 78, "FACEKI_CLIENT_ID", "FACEKI_CLIENT_SECRET", "--simulate")
	refused("Redis evicts", []string{"FACEKI_CLIENT_ID=invented", "FACEKI_CLIENT_SECRET=invented", "KYCLINK_REDIS_URL=" + evicting.URL}, 78, "allkeys-lru", "noeviction", "KYCLINK_REDIS_ALLOW_EVICTION")
	_, setting := upstream(t, `{}`)
	w := start(t, []string{"KYCLINK_REDIS_URL=" + evicting.URL, "KYCLINK_REDIS_ALLOW_EVICTION=true", setting}, "worker", "--simulate")
	fixture.Eventually(t, "it starts", func() bool { return strings.Contains(w.stderr.String(), "worker started") })
}

// The output of a run at the most verbose level and the data in Redis contain no secret,
// and links are only in the output file.
func TestOutput_HoldsNoSecret(t *testing.T) {
	t.Parallel()
	const id, secret = "invented-client-id", "invented-client-secret"
	server := newRedis(t)
	sim, setting := upstream(t, mixedFaults)
	settings := []string{setting, "KYCLINK_LOG_LEVEL=debug", "FACEKI_CLIENT_ID=" + id, "FACEKI_CLIENT_SECRET=" + secret}
	dir := t.TempDir()
	in := write(t, filepath.Join(dir, "in.csv"), people(60))
	var printed strings.Builder
	real := append(slices.Clone(settings), "KYCLINK_REDIS_URL="+server.URL)
	for _, p := range []*process{
		start(t, settings, "run", in, "-o", filepath.Join(dir, "embedded.csv"), "--simulate"),
		start(t, real, "run", in, "-o", filepath.Join(dir, "real.csv"), "--simulate"),
	} {
		if code := p.exit(); code != 0 {
			t.Errorf("exit code %d:\n%s", code, p.stderr.String())
		}
		printed.WriteString(p.stdout.String() + p.stderr.String())
	}
	for _, args := range [][]string{
		{"worker", "extra"}, {"show", "nobody"}, {"request", "--application-id", ""},
		{"run", in, "-o", filepath.Join(dir, "embedded.csv"), "--nonsense"},
	} {
		_, stdout, stderr := kyclink(t, real, args...)
		printed.WriteString(stdout + stderr)
	}
	text := printed.String()
	if strings.Count(text, "\n") < 150 || sim.State().Faults["http_500"] == 0 {
		t.Fatalf("only %d lines were printed; so this test checks nothing", strings.Count(text, "\n"))
	}
	if at := strings.Index(text, "simulator.invalid"); at >= 0 {
		t.Errorf("a link was printed: %s", text[max(0, at-300):at+100])
	}
	for _, word := range []string{secret, "Bearer", "simulated-"} { // "simulated-" is the prefix of the simulator's tokens
		if strings.Contains(text, word) {
			t.Errorf("%q was printed", word)
		}
	}
	for _, a := range sim.Applications(0, 1000).Applications {
		for _, l := range a.Links {
			if strings.Contains(text, l.LinkID) {
				t.Errorf("the link id of %s was printed", a.ApplicationID)
			}
		}
	}
	keys := server.Client(t)
	for _, stored := range keys.Keys(t.Context(), "*").Val() {
		if value := keys.Dump(t.Context(), stored).Val(); strings.Contains(value, secret) {
			t.Errorf("%s holds the secret", stored)
		}
	}
}
