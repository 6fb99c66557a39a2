package main

import (
	"net/http"
	"path/filepath"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/fixture"
)

// scenario is a part of the core suite. Its name is that of its account.
type scenario struct {
	name      string
	essential bool // it is part of make test
	run       func(place)
}

func scenarios() []scenario {
	return []scenario{
		{"files", true, importAndExport},
		{"run", true, runFile},
		{"signups", true, signUp},
		{"callbacks", false, callBack},
		{"outage", false, surviveOutage},
		{"pause", false, pauseAndResume},
		{"cancel", false, cancelWaiting},
		{"retry", false, retryFailed},
		{"forget", false, forgetPeople},
		{"killed-worker", false, killWorker},
	}
}

// expectLinks checks how many links FaceKi made.
func expectLinks(t testing.TB, sim *simulator.Simulator, want int) {
	t.Helper()
	if made := sim.State(); made.Links != want || made.SeveralLinks != 0 {
		t.Errorf("%d links were made, want %d; %d requests have several", made.Links, want, made.SeveralLinks)
	}
}

func importAndExport(p place) {
	const rows = 150
	sim, faceki := upstream(p.t, `{}`)
	operate, produce := p.commands()
	out := filepath.Join(p.t.TempDir(), "links.csv")
	produce(0, "", "", "import", peopleFile(p.t, rows), "--batch", "spring")
	p.middle()
	p.worker(faceki)
	operate(0, "done", "150 created", "batch", "watch", "spring")
	operate(0, "", "", "batch", "export", "spring", "-o", out)
	oneLinkEach(p.t, out, rows)
	expectLinks(p.t, sim, rows)
}

// runFile runs a job twice: the second time, there is nothing left to do.
func runFile(p place) {
	const rows = 150
	sim, faceki := upstream(p.t, `{}`)
	run := expecter(p.t, p.as("worker", faceki))
	in, out := peopleFile(p.t, rows), filepath.Join(p.t.TempDir(), "links.csv")
	run(0, "", "150 created", "run", in, "-o", out, "--simulate")
	p.middle()
	run(0, "", "150 created", "run", in, "-o", out, "--simulate")
	oneLinkEach(p.t, out, rows)
	expectLinks(p.t, sim, rows)
}

// signUp asks for links in three ways, and reads them by commands, the results stream, the
// API and the console.
func signUp(p place) {
	const wait = "--wait=4m"
	sim, faceki := upstream(p.t, `{}`)
	operate, produce := p.commands()
	p.worker(faceki)
	serve := startServe(p.t, p.url("serve"), p.as("serve")...)
	url := produce(0, "https://simulator.invalid/", "", "request", "--application-id", "A-1", wait)
	p.middle()
	if again := produce(0, "https://", "", "request", "--application-id", "A-1", wait); again != url {
		p.t.Errorf("the second request got %q after %q", again, url)
	}
	produce(0, "https://", "", "request", "--application-id", "A-1", "--generation", "2", wait)
	fixture.Eventually(p.t, "the API answers with a link", func() bool {
		status, _ := serve.ask(http.DefaultClient, http.MethodPost, "http://"+serve.addr+"/v1/links", `{"application_id":"H-2"}`, "Prefer", "wait=10")
		return status == http.StatusCreated || status == http.StatusOK
	})
	fixture.Must(p.t, p.rdb.XAdd(p.t.Context(), &redis.XAddArgs{Stream: p.key(":requests"), Values: []any{"application_id", "I-1"}}).Err())
	p.created("I-1")
	operate(0, "generation 1", "", "show", "A-1")
	operate(0, `"workers":1`, "", "account", "status", "--json")
	operate(0, "", "", "account", "rate", "300/s")
	operate(0, "", "", "account", "rate", "--reset")
	operate(0, "", "", "status")
	expecter(p.t, p.as("consumer"))(0, `"I-1"`, "", "results", "read", "--group", "crm")
	visit(p.t, serve)
	p.created("H-1") // of visit
	if links := sim.State().Links; links != 5 {
		p.t.Errorf("%d links were made for five requests", links)
	}
}

// callBack delivers an event to a receiver, and one to a receiver that is down at first.
func callBack(p place) {
	_, faceki := upstream(p.t, `{}`)
	operate, produce := p.commands()
	receiver := newReceiver(p.t, 0, 0, newSecret)
	p.worker(faceki)
	produce(0, "https://", "", "request", "--application-id", "A-1", "--callback-url", receiver.url(), "--wait=4m")
	fixture.Eventually(p.t, "the callback arrives", func() bool { return receiver.events() == 1 })
	p.middle()
	receiver.stop()
	produce(0, "https://", "", "request", "--application-id", "A-2", "--callback-url", receiver.url(), "--wait=4m")
	receiver.listen()
	fixture.Eventually(p.t, "the second callback arrives", func() bool { return receiver.events() == 2 })
	if operate(0, "", "", "callbacks", "list", "--json") != "" {
		p.t.Error("a callback was given up")
	}
}

func surviveOutage(p place) {
	const rows = 20
	sim, faceki := upstream(p.t, `{"rules":[{"match":"*","fault":"http_503"}]}`)
	operate, produce := p.commands()
	produce(0, "", "", "import", peopleFile(p.t, rows), "--batch", "spring")
	p.worker(faceki)
	fixture.Eventually(p.t, "the gate closes", func() bool { return status(p.t, p.as("serve")).Gate.State == "closed" })
	operate(4, "", "", "status")
	p.middle()
	fixture.Must(p.t, sim.SetScript(simulator.Script{}))
	operate(0, "done", "20 created", "batch", "watch", "spring")
	expectLinks(p.t, sim, rows)
}

func pauseAndResume(p place) {
	const rows = 20
	sim, faceki := upstream(p.t, `{}`)
	operate, produce := p.commands()
	produce(0, "", "", "import", peopleFile(p.t, rows), "--batch", "spring")
	operate(0, `batch "spring" is paused`, "", "batch", "pause", "spring")
	operate(0, "", "", "account", "pause")
	p.worker(faceki)
	fixture.Eventually(p.t, "the worker has joined", func() bool { return status(p.t, p.as("serve")).Workers == 1 })
	operate(3, "", "paused", "request", "--application-id", "A-1", "--wait=100ms") // a producer is shown no diagnosis
	p.middle()
	expectLinks(p.t, sim, 0)
	operate(0, "", "", "account", "resume")
	produce(0, "https://", "", "request", "--application-id", "A-1", "--wait=4m")
	expectLinks(p.t, sim, 1)
	operate(0, `batch "spring" is running`, "", "batch", "resume", "spring")
	operate(0, "done", "20 created", "batch", "watch", "spring")
	expectLinks(p.t, sim, rows+1)
}

func cancelWaiting(p place) {
	sim, faceki := upstream(p.t, `{}`)
	operate, produce := p.commands()
	produce(0, "", "", "import", peopleFile(p.t, 150), "--batch", "spring")
	p.middle()
	operate(0, `batch "spring" is cancelled: 150 cancelled`, "", "batch", "cancel", "spring", "--yes")
	p.worker(faceki)
	produce(0, "https://", "", "request", "--application-id", "A-1", "--wait=4m")
	operate(2, "", "150 cancelled", "batch", "watch", "spring")
	expectLinks(p.t, sim, 1)
}

func retryFailed(p place) {
	const rows = 20
	sim, faceki := upstream(p.t, `{"rules":[{"match":"P-00000[1-3]","fault":"code_5002"}]}`)
	operate, produce := p.commands()
	produce(0, "", "", "import", peopleFile(p.t, rows), "--batch", "spring")
	p.worker(faceki)
	operate(2, "", "17 created, 3 failed", "batch", "watch", "spring")
	p.middle()
	fixture.Must(p.t, sim.SetScript(simulator.Script{}))
	operate(0, "", "3 retried", "failed", "retry", "--all")
	operate(0, "", "20 created", "batch", "watch", "spring")
	operate(0, "every count is exact", "", "batch", "check", "spring")
	expectLinks(p.t, sim, rows)
}

func forgetPeople(p place) {
	_, faceki := upstream(p.t, `{}`)
	operate, produce := p.commands()
	produce(0, "", "", "import", peopleFile(p.t, 5), "--batch", "spring")
	p.worker(faceki)
	produce(0, "https://", "", "request", "--application-id", "A-1", "--wait=4m")
	operate(0, "done", "", "batch", "watch", "spring")
	p.middle()
	operate(0, "erased: 1 request ", "", "forget", "A-1", "--yes")
	operate(1, "", "no request has this application ID", "show", "A-1")
	operate(0, "erased: 5 requests ", "", "forget", "--batch", "spring", "--yes")
	for _, id := range []string{"A-1", "P-000000", "P-000004"} {
		if n, err := p.rdb.Exists(p.t.Context(), p.key("/"+id)).Result(); n != 0 || err != nil {
			p.t.Errorf("%s is kept: %v", id, err)
		}
	}
}

// killWorker kills a worker whose calls are in flight: another one takes them over, and
// counts a second link as a possible duplicate.
func killWorker(p place) {
	const rows = 4
	sim, faceki := upstream(p.t, `{"rules":[{"match":"*","fault":"hang"}]}`)
	settings := []string{faceki, "FACEKI_TIMEOUT=1m", "KYCLINK_CONCURRENCY=4"}
	operate, produce := p.commands()
	produce(0, "", "", "import", peopleFile(p.t, rows), "--batch", "spring")
	killed := p.worker(settings...)
	fixture.Eventually(p.t, "the calls are in flight", func() bool { return sim.State().InFlight == rows })
	killed.kill()
	p.middle()
	fixture.Must(p.t, sim.SetScript(simulator.Script{}))
	p.worker(settings...)
	operate(0, "done", "4 created", "batch", "watch", "spring")
	b := statusOf(p.t, p.as("serve"), "spring")
	if made := sim.State().Links; b.PossibleDuplicates > rows || made > rows+b.PossibleDuplicates {
		p.t.Errorf("%d links were made for %d requests with %d possible duplicates", made, rows, b.PossibleDuplicates)
	}
}
