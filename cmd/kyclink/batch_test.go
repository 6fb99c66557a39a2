package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/storage"
	"github.com/kyclink/kyclink/tasks"
)

// importBatch imports n rows into a batch. Their IDs begin with its name.
func importBatch(t testing.TB, rdb redis.UniversalClient, name string, n int) {
	t.Helper()
	rows := make([]tasks.Request, n)
	for i := range rows {
		rows[i].ApplicationID = fmt.Sprintf("%s-%05d", name, i+1)
	}
	client := tasks.NewClient(rdb, tasks.Config{})
	if err := client.EnqueueAll(t.Context(), tasks.Batch{Name: name}, tasks.Rows(rows), func(r tasks.Result) {
		if r.Err != nil {
			t.Error(r.Err)
		}
	}); err != nil {
		t.Fatal(err)
	}
}

func statusOf(t testing.TB, settings []string, name string) (b batch.Batch) {
	t.Helper()
	code, stdout, stderr := kyclink(t, settings, "batch", "status", name, "--json")
	if err := json.Unmarshal([]byte(stdout), &b); err != nil || code != 0 {
		t.Fatalf("exit code %d, %v: %s%s", code, err, stdout, stderr)
	}
	return b
}

// batchOf returns the same as [statusOf] without starting a process.
func batchOf(t testing.TB, rdb redis.UniversalClient, name string) batch.Batch {
	t.Helper()
	b, ok, err := storage.Of(rdb, "default").Batches.ByName(t.Context(), name)
	if err != nil || !ok {
		t.Fatalf("batch %s is not known: %v", name, err)
	}
	return b
}

func TestBatch_IsSteeredByCommands(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	sim, setting := upstream(t, `{"rules":[{"match":"spring-0000[1-3]","fault":"code_5002"}]}`)
	settings := []string{setting, "KYCLINK_REDIS_URL=" + server.URL}
	expect := expecter(t, settings)
	expect(1, "", `there is no batch "spring" in account "default", nor any other`, "batch", "status", "spring")
	importBatch(t, server.Client(t), "spring", 40)
	importBatch(t, server.Client(t), "autumn", 20)
	expect(1, "", `did you mean "spring"?`, "batch", "status", "sprnig")
	expect(1, "", "kyclink batch list shows the existing ones", "batch", "pause", "xyz")
	expect(64, "", "an argument is missing; give a batch's name", "batch", "watch")

	expect(0, `batch "spring" is paused; 40 waiting`, "", "batch", "pause", "spring")
	start(t, settings, "worker", "--simulate")
	expect(0, "created", `batch "autumn" is done`, "batch", "watch", "autumn")
	expect(0, `{"batch":"autumn","status":"done","rows":20,`, "", "batch", "watch", "autumn", "--json")
	if got := statusOf(t, settings, "spring"); got.Status != batch.Paused || got.Counts[request.Waiting] != 40 || sim.State().LinkCalls != 20 {
		t.Errorf("%+v; %d calls", got, sim.State().LinkCalls)
	}
	list := expect(0, `{"batch":"spring","status":"paused","rows":40,"joined":0,"counts":{`, "", "batch", "list", "--json")
	if !strings.Contains(list, `{"batch":"autumn","status":"done","rows":20,`) {
		t.Errorf("the list is\n%s", list)
	}
	expect(0, `batch "spring" is running`, "", "batch", "resume", "spring")
	expect(2, "  failed             3", `batch "spring" is done; 40 rows: 37 created, 3 failed`, "batch", "watch", "spring")
	expect(64, "", `no request is failed with reason "nonsense"`, "batch", "retry", "spring", "--reason", "nonsense")
	expect(0, "", "3 would be retried", "batch", "retry", "spring", "--dry-run")
	script := sim.Script()
	script.Rules = nil
	if err := sim.SetScript(script); err != nil {
		t.Fatal(err)
	}
	expect(0, "", "kyclink: 3 retried", "batch", "retry", "spring", "--reason", "invalid_request")
	expect(0, "", "40 created", "batch", "watch", "spring")

	expect(0, `batch "spring" is done: there was nothing to cancel`, "", "batch", "cancel", "spring", "--yes")
	expect(0, `batch "spring" is done`, "", "batch", "pause", "spring") // a done batch can be paused
	importBatch(t, server.Client(t), "spring", 41)
	expect(64, "", "there is no terminal to ask on; give --yes", "batch", "cancel", "spring")
	expect(0, `batch "spring" is cancelled: 1 cancelled`, "", "batch", "cancel", "spring", "--yes")
	expect(0, "0 cancelled", "", "batch", "cancel", "spring", "--yes")
	expect(1, "", "is cancelled", "batch", "resume", "spring")
	expect(1, "", "kyclink failed retry ID", "batch", "retry", "spring")
	expect(0, "41 rows: 40 created, 1 cancelled; every count is exact", "", "batch", "check", "spring")
	people := peopleFile(t, 1)
	for _, args := range [][]string{{"import", people, "--batch", "spring"}, {"import", people, "--batch", "spring", "--dry-run"}} {
		code, _, stderr := kyclink(t, settings, args...)
		if code != 1 || !strings.Contains(stderr, "import them into another batch") || strings.Contains(stderr, "run the same command again") {
			t.Errorf("%v into a cancelled batch: exit code %d, %s", args, code, stderr)
		}
	}
	if err := server.Client(t).HIncrBy(t.Context(), "{kyclink:default}:batch:1", "created", 2).Err(); err != nil {
		t.Fatal(err)
	}
	expect(1, `"exact":false,"differs":{"created":2}`, "created by +2", "batch", "check", "spring", "--json")
}

// Workers finish a cancel whose command was killed.
func TestWorkers_FinishACancelThatWasKilled(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	_, setting := upstream(t, `{}`)
	settings := []string{setting, "KYCLINK_REDIS_URL=" + server.URL}
	rdb := server.Client(t)
	batches := 0
	cancelled := func() int {
		n, _ := rdb.HGet(t.Context(), fmt.Sprintf("{kyclink:default}:batch:%d", batches), "cancelled").Int() // absent is 0
		return n
	}
	for killed := false; !killed; killed = cancelled() < cancelRows { // on a busy machine the command may end first
		if batches++; batches > 10 {
			t.Fatal("ten commands ended before they were killed")
		}
		name := fmt.Sprint("spring-", batches)
		importBatch(t, rdb, name, cancelRows)
		p := start(t, settings, "batch", "cancel", name, "--yes")
		fixture.Eventually(t, "some have ended", func() bool { return cancelled() > 0 })
		p.kill()
	}
	start(t, settings, "worker", "--simulate")
	fixture.Eventually(t, "all have ended", func() bool { return cancelled() == cancelRows })
	if n := rdb.XLen(t.Context(), "{kyclink:default}:results").Val(); n != int64(batches*cancelRows) {
		t.Errorf("%d events", n)
	}
	fixture.Eventually(t, "the cancel has ended", func() bool { return rdb.Exists(t.Context(), "{kyclink:default}:cancelling").Val() == 0 })
	expecter(t, settings)(0, count(cancelRows)+" cancelled; every count is exact", "", "batch", "check", fmt.Sprint("spring-", batches))
}

// Ten batches of different sizes are processed at the same time, with faults, a killed
// worker, and operator commands on each. Every recount finds exact counters.
func TestBatch_CountsStayExactBesideOthers(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	sim, setting := upstream(t, `{"seed":7,"latency":"2ms","max_faults_per_id":2,"faults":[{"fault":"http_500","probability":0.03}],
		"rules":[{"match":"*7","fault":"code_5002"},{"match":"*9","fault":"no_url"}]}`)
	settings := []string{setting, "KYCLINK_REDIS_URL=" + server.URL, "FACEKI_RATE=400/s"}
	rdb := server.Client(t)
	sizes := map[string]int{}
	total := 0
	for i := range 10 {
		name := fmt.Sprintf("b%d", i)
		sizes[name] = []int{1, 10, 40, 99, 100, 101, 120, 150, 200, 300}[i]
		total += sizes[name]
		importBatch(t, rdb, name, sizes[name])
	}
	workers := []*process{start(t, settings, "worker", "--simulate"), start(t, settings, "worker", "--simulate")}
	fixture.Eventually(t, "some calls are made", func() bool { return sim.State().LinkCalls > 200 })

	var operating sync.WaitGroup
	act := func(args ...string) {
		t.Helper()
		if code, _, stderr := kyclink(t, settings, append([]string{"batch"}, args...)...); code != 0 {
			t.Errorf("%v: exit code %d: %s", args, code, stderr)
		}
	}
	cancelled := map[string]bool{"b3": true, "b8": true}
	for name := range sizes {
		operating.Go(func() {
			switch {
			case cancelled[name]:
				act("pause", name)
				act("cancel", name, "--yes")
			default:
				for range 3 {
					act([]string{"pause", "check", "retry"}[rand.IntN(3)], name)
					act("check", name)
				}
				act("resume", name)
				act("retry", name)
			}
		})
	}
	workers[0].kill()
	start(t, settings, "worker", "--simulate")
	operating.Wait()

	script := sim.Script()
	script.Rules, script.Faults = nil, nil
	if err := sim.SetScript(script); err != nil {
		t.Fatal(err)
	}
	over := func(states ...request.State) func() bool {
		return func() bool {
			for name := range sizes {
				b := batchOf(t, rdb, name)
				for _, state := range states {
					if n := b.Counts[state]; n > 0 && (!cancelled[name] || state != request.Failed) {
						return false
					}
				}
			}
			return true
		}
	}
	// A batch whose failed rows were retried is paused after 20 consecutive refusals.
	for name := range sizes {
		if !cancelled[name] {
			act("resume", name)
		}
	}
	open := []request.State{request.Waiting, request.Queued, request.Calling}
	fixture.Eventually(t, "nothing is open", over(open...))
	for name := range sizes {
		if !cancelled[name] {
			act("retry", name)
			code, _, stderr := kyclink(t, settings, "held", "retry", "--batch", name)
			if code != 0 {
				t.Errorf("held retry of %s: exit code %d: %s", name, code, stderr)
			}
		}
	}
	fixture.Eventually(t, "all have a link", over(append(open, request.Held, request.Failed)...))
	for name, size := range sizes {
		b := statusOf(t, settings, name)
		if b.Rows != size {
			t.Errorf("%s has %d rows, want %d", name, b.Rows, size)
		}
		want := size
		if cancelled[name] {
			want -= b.Counts[request.Cancelled] + b.Counts[request.Failed]
		}
		if b.Counts[request.Created] != want {
			t.Errorf("%s: %+v", name, b.Counts)
		}
		act("check", name)
	}
	ends := map[string]bool{}
	entries, err := rdb.XRange(t.Context(), "{kyclink:default}:results", "-", "+").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if kind := e.Values["type"]; kind == "link.created" || kind == "link.cancelled" {
			ends[fmt.Sprint(e.Values["application_id"])] = true
		}
	}
	if len(ends) < total-60 { // failed rows of a cancelled batch stay failed
		t.Errorf("%d of %d have a final event", len(ends), total)
	}
}
