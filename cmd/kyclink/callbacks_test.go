package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/callback"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/operator"
	"github.com/kyclink/kyclink/tasks"
)

const (
	oldSecret = "whsec_b2xkIHNlY3JldCBvZiAyNCBieXRlcyEh"
	newSecret = "whsec_bmV3IHNlY3JldCBvZiAyNCBieXRlcyEh"
)

func hooked(setting string, server *database, secrets string) []string {
	return []string{
		setting, "KYCLINK_REDIS_URL=" + server.URL, "KYCLINK_CALLBACK_HOSTS=*",
		"KYCLINK_CALLBACK_ALLOW_CIDRS=127.0.0.0/8", "KYCLINK_CALLBACK_SECRET=" + secrets,
	}
}

// enqueueHooked enqueues n bulk requests in a batch with a callback URL.
func enqueueHooked(t testing.TB, rdb redis.UniversalClient, url string, from, n int) {
	t.Helper()
	hooks := callback.Config{Hosts: []string{"*"}, AllowCIDRs: []string{"127.0.0.0/8"}}.Callbacks()
	client := tasks.NewClient(rdb, tasks.Config{Callbacks: hooks})
	requests := make([]tasks.Request, n)
	for i := range requests {
		requests[i].ApplicationID = fmt.Sprintf("P-%05d", from+i)
	}
	batch := tasks.Batch{Name: fmt.Sprintf("spring-%d", from), Options: tasks.Options{CallbackURL: url}}
	if err := client.EnqueueAll(t.Context(), batch, tasks.Rows(requests), func(r tasks.Result) {
		if r.Err != nil {
			t.Error(r.Err)
		}
	}); err != nil {
		t.Fatal(err)
	}
}

// The receiver fails, hangs and is down for a while, and workers are killed. It gets
// every event, and gets no more accepted events again than answers can have been lost.
func TestCallbacks_ReachAFailingReceiverOnce(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	rdb := server.Client(t)
	_, setting := upstream(t, `{}`)
	settings := append(hooked(setting, server, newSecret+" "+oldSecret), "KYCLINK_LOG_LEVEL=debug")
	receiver := newReceiver(t, 0.2, 0.05, oldSecret)
	enqueueHooked(t, rdb, receiver.url(), 0, hookedRequests)
	// With the callback pace of the other tests, the last retries take minutes.
	program := fixture.ProgramFor(t, fixture.Build{CallbackPace: 4000})
	worker := func() *process { return startBinary(t, program, settings, "worker", "--simulate") }

	begun := time.Now()
	took := func(n int, deadline time.Time) {
		for receiver.events() < n && time.Now().Before(deadline) {
			<-time.After(50 * time.Millisecond)
		}
		t.Logf("%v: %d events received", time.Since(begun).Round(time.Second), receiver.events())
	}
	workers := []*process{worker(), worker()}
	logs := slices.Clone(workers)
	for kill := range workerKills {
		at := hookedRequests * (kill + 1) / (workerKills + 2)
		took(at, time.Now().Add(callbacksEnd))
		victim := rand.N(len(workers))
		workers[victim].kill()
		workers[victim] = worker()
		logs = append(logs, workers[victim])
	}
	receiver.stop()
	<-time.After(receiverAway)
	receiver.listen()
	// Some deliveries use up their nine attempts while the receiver is down. An operator
	// retries them.
	for deadline := time.Now().Add(callbacksEnd); receiver.events() < hookedRequests && time.Now().Before(deadline); {
		took(hookedRequests, time.Now().Add(10*time.Second))
		if code, _, stderr := kyclink(t, settings, "callbacks", "retry", "--all"); code != 0 {
			t.Fatalf("callbacks retry exits with %d: %s", code, stderr)
		}
	}

	ends := map[string]bool{}
	entries, err := rdb.XRange(t.Context(), "{kyclink:default}:results", "-", "+").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		ends[fmt.Sprint(e.Values["id"])] = true
	}
	receiver.mu.Lock()
	missing := 0
	for id := range ends {
		if !receiver.accepted[id] {
			missing++
		}
	}
	failures, again, forged := 0, receiver.again, receiver.forged
	for _, n := range receiver.refused {
		failures += n
	}
	receiver.mu.Unlock()
	// A worker makes at most 16 attempts at a time for one host, so that no more answers
	// are lost with it.
	if most := 16 * (workerKills + len(workers)); again > most {
		t.Errorf("%d accepted events were sent again, want at most %d", again, most)
	}
	if len(ends) != hookedRequests || missing > 0 || forged > 0 {
		t.Errorf("%d events for %d requests; %d never accepted, %d with a wrong signature", len(ends), hookedRequests, missing, forged)
	}
	t.Logf("%d events, %d failed or missing answers, %d sent again after they were accepted", len(ends), failures, again)
	for _, w := range logs {
		for _, secret := range []string{"known-to-the-receiver-only", "simulator.invalid", strings.TrimPrefix(newSecret, "whsec_"), strings.TrimPrefix(oldSecret, "whsec_")} {
			if strings.Contains(w.stderr.String(), secret) {
				t.Errorf("a log holds %q", secret)
			}
		}
	}
}

// The workers and then the receiver change from one secret to the next.
func TestCallbacks_AreVerifiedDuringSecretRotation(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	rdb := server.Client(t)
	_, setting := upstream(t, `{}`)
	receiver := newReceiver(t, 0, 0, oldSecret)
	var w *process
	sent := 0
	for _, step := range []struct{ worker, receiver string }{
		{oldSecret, oldSecret},
		{newSecret + " " + oldSecret, oldSecret}, // sign with both
		{newSecret + " " + oldSecret, newSecret}, // the receiver changes
		{newSecret, newSecret},
	} {
		receiver.trust(step.receiver)
		if w != nil {
			w.signal(syscall.SIGTERM)
			w.exit()
		}
		w = start(t, hooked(setting, server, step.worker), "worker", "--simulate")
		enqueueHooked(t, rdb, receiver.url(), sent, 20)
		sent += 20
		fixture.Eventually(t, fmt.Sprintf("%d events are received", sent), func() bool { return receiver.events() == sent })
	}
	if receiver.forged > 0 || receiver.again > 0 {
		t.Errorf("%d callbacks were not verified, %d were sent again", receiver.forged, receiver.again)
	}
}

// Deliveries that were given up are listed, shown, retried and dropped, and are erased
// with their request.
func TestCallbacks_GivenUpAreListedRetriedAndDropped(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	rdb := server.Client(t)
	_, setting := upstream(t, `{}`)
	settings := hooked(setting, server, newSecret)
	receiver := newReceiver(t, 0, 0, oldSecret) // it answers 500 if it cannot verify a callback
	start(t, settings, "worker", "--simulate")
	enqueueHooked(t, rdb, "https://10.0.0.1/hooks", 0, 3)
	list := func(args ...string) []string {
		code, stdout, stderr := kyclink(t, settings, append([]string{"callbacks", "list", "--json"}, args...)...)
		if code != 0 {
			t.Fatalf("callbacks list %v exits with %d: %s", args, code, stderr)
		}
		return strings.Split(strings.TrimSuffix(stdout, "\n"), "\n")
	}
	fixture.Eventually(t, "3 deliveries are given up", func() bool {
		return len(list("--reason", "forbidden", "--host", "10.0.0.1", "--batch", "spring-0")) == 3
	})
	var one operator.Delivery
	if err := json.Unmarshal([]byte(list("P-00001")[0]), &one); err != nil || one.Status != "given_up" || one.Attempts != 1 || one.LastAnswer.Reason != "forbidden" {
		t.Errorf("%v; listed as %+v", err, one)
	}
	if again := list("P-00001", one.EventID, "P-00001", "P-00000"); len(again) != 2 {
		t.Errorf("named three times, it is listed as %v", again)
	}
	var two operator.Delivery
	err := json.Unmarshal([]byte(list("P-00002")[0]), &two)
	givenUp := func(at time.Time) {
		t.Helper()
		err := rdb.HSet(t.Context(), keyspace.Keys{Account: "default"}.Delivery(two.EventID), "given_up_at", at.UnixMilli()).Err()
		if err != nil {
			t.Fatal(err)
		}
	}
	givenUp(time.Now().Add(time.Hour)) // as if it were given up while the command runs
	if left := list("P-00002"); !strings.Contains(left[0], two.EventID) {
		t.Errorf("a delivery that is named and given up later is listed as %v; %v", left, err)
	}
	givenUp(two.GivenUpAt)
	run := func(want string, args ...string) {
		t.Helper()
		if _, stdout, stderr := kyclink(t, settings, args...); !strings.Contains(stdout+stderr, want) {
			t.Errorf("%v prints no %q but:\n%s%s", args, want, stdout, stderr)
		}
	}
	run("1 enqueued", "callbacks", "retry", one.EventID, "P-00001", "--json")
	fixture.Eventually(t, "it is retried", func() bool {
		_, stdout, _ := kyclink(t, settings, "callbacks", "show", "P-00001")
		return strings.Contains(stdout, "given_up") && strings.Contains(stdout, "2 attempts")
	})
	run("10.0.0.1 is private or special", "show", "P-00001")
	run(`"deliveries":[{"event_id":"`+one.EventID, "show", "P-00001", "--json")
	run(`"dropped":true,"attempts":2`, "callbacks", "drop", "P-00001", "--json")
	if left := list(); len(left) != 2 {
		t.Errorf("listed after a drop: %v", left)
	}
	run("no callback was given up", "callbacks", "retry", "P-77777")
	run("use one of", "callbacks", "list", "--reason", "bored")
	run("no given-up callback is selected", "callbacks", "retry")

	enqueueHooked(t, rdb, receiver.url(), 10, 1) // is retried
	fixture.Eventually(t, "the receiver refused it", func() bool { receiver.mu.Lock(); defer receiver.mu.Unlock(); return receiver.forged > 0 })
	var three operator.Delivery
	fixture.Eventually(t, "it is listed as being retried", func() bool {
		got := list("--host", "127.0.0.1", "--reason", "receiver_error")
		return json.Unmarshal([]byte(got[0]), &three) == nil
	})
	if three.ApplicationID != "P-00010" || three.Status != "pending" || three.LastAnswer.Status != 500 || !three.NextAttempt.After(three.LastAnswer.At) {
		t.Errorf("listed as %+v, last answer %+v", three, three.LastAnswer)
	}
	run(", next 20", "callbacks", "list", "P-00010")
	run("P-00010: no callback was given up; to see all of its deliveries", "callbacks", "retry", "P-00010")
	run("P-77777: no callback was given up, and none is being retried; to see all of its deliveries", "callbacks", "list", "P-77777")
	run("kyclink: 2 would be hidden", "callbacks", "drop", "--all", "--dry-run")
	ids := []string{"P-00000", "P-00001", "P-00010"}
	fixture.Eventually(t, "they are erased", func() bool {
		code, _, _ := kyclink(t, settings, append([]string{"forget", "--yes"}, ids...)...)
		return code == 0
	})
	fixture.Eventually(t, "no key names them", func() bool { return len(traces(t, rdb, ids...)) == 0 })
	if left := list(); len(left) != 1 || !strings.Contains(left[0], "P-00002") {
		t.Errorf("listed after the erasure: %v", left)
	}
}

func TestCallbacks_AreRefusedToOtherHosts(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	for want, settings := range map[string][]string{
		"callbacks are off":               {},
		"must not go to evil.example":     {"KYCLINK_CALLBACK_HOSTS=shop.example"},
		"KYCLINK_CALLBACK_HOSTS holds":    {"KYCLINK_CALLBACK_HOSTS=https://shop.example"},
		"KYCLINK_CALLBACK_HOSTS is empty": {"KYCLINK_CALLBACK_HOSTS="},
	} {
		code, _, stderr := kyclink(t, append(settings, "KYCLINK_REDIS_URL="+server.URL), "request", "--application-id", "A-1", "--callback-url", "https://evil.example/")
		if code != exitNotCreated && code != 78 || !strings.Contains(stderr, want) {
			t.Errorf("with %v request exits with %d: %s", settings, code, stderr)
		}
	}
}

// A callback that cannot be decoded hides neither its request nor the others of that request.
func TestShow_NamesACallbackThatCannotBeDecoded(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	rdb := server.Client(t)
	stores := failedRequests(t, rdb, 1)
	for i, event := range []string{"event-1", "event-2"} {
		fixture.Must(t, rdb.RPush(t.Context(), stores.Keys.Deliveries("F-000000"), event).Err())
		fixture.Must(t, rdb.HSet(t.Context(), stores.Keys.Delivery(event), "application_id", "F-000000", "type", "link.failed",
			"host", "shop.example", "status", "given_up", "attempts", []string{"many", "9"}[i]).Err())
	}
	expect := expecter(t, []string{"KYCLINK_REDIS_URL=" + server.URL})
	text := expect(0, "event-1: damaged, or written by a newer version of kyclink", "", "show", "F-000000")
	if !strings.Contains(text, "link.failed to shop.example: given_up, 9 attempts") {
		t.Errorf("the other callback is missing:\n%s", text)
	}
	expect(0, `"unreadable_deliveries":["event-1"]`, "", "show", "F-000000", "--json")
	expect(1, "event-2 link.failed", "kyclink: skipped event-1, which this version cannot decode", "callbacks", "show", "F-000000")
}
