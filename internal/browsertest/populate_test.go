//go:build browser

package browsertest

import (
	"fmt"
	"testing"

	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

// Behavior of FaceKi: of every request, and of those named by their prefix.
var (
	noFaults   = simulator.Script{}
	someFaults = simulator.Script{Seed: 1, Latency: simulator.Duration(80e6), Jitter: simulator.Duration(40e6), Rules: []simulator.Rule{
		{Match: "bad-*", Fault: simulator.Fault{Name: "code_5002"}},
		{Match: "held-*", Fault: simulator.Fault{Name: "no_url"}},
	}}
)

// newBusySystem returns an account with requests in every state: a batch that is done, one
// that is paused, and one that a worker works through for as long as the test runs.
func newBusySystem(t *testing.T) *system {
	t.Helper()
	if *pictures == "" {
		t.Parallel()
	}
	account := fixture.NewAccountOn(t, server)
	if *pictures != "" { // a name that people see
		name := "northwind"
		account.Keys = keyspace.Keys{Account: name}
		account.Client = tasks.NewClient(account.Redis, tasks.Config{Account: name})
	}
	s := startSystem(t, account, simulator.New(simulator.Config{Script: someFaults}), nil)
	s.populate()
	return s
}

// populate brings an account of a system without workers into that state.
func (s *system) populate() {
	s.Helper()
	s.key("Signup service", apikey.Enqueue, apikey.Read)
	s.key("Support desk", apikey.Read)
	_, old := s.key("Old partner", apikey.Enqueue)
	_, err := s.keys.Revoke(s.Context(), old)
	s.Must(err)

	fast := s.worker("FACEKI_RATE=1000/s", "FACEKI_BURST=100", "KYCLINK_CONCURRENCY=200")
	rows := numbered("A", 1001, 1240)
	for n := 5; n < len(rows); n += 31 {
		rows[n].ApplicationID = fmt.Sprintf("bad-%d", 1013+n)
	}
	for n := 6; n < len(rows); n += 60 {
		rows[n].ApplicationID = fmt.Sprintf("held-%d", 1001+n)
	}
	rows[0].Metadata = []byte(`{"plan":"business","campaign":"pilot"}`)
	s.importRows(doneBatch, rows...)
	s.await("A-1001", tasks.Created)
	s.await(failedID, tasks.Failed)
	s.await(heldID, tasks.Held)
	s.enqueue(tasks.Request{ApplicationID: "S-20417", Metadata: []byte(`{"source":"signup"}`)})
	s.await("S-20417", tasks.Created)

	s.importRows(pausedBatch, numbered("P", 1, 400)...)
	s.awaitCreated(pausedBatch, 100)
	s.run("batch", "pause", pausedBatch)
	s.importRows(runningBatch, numbered("N", 20001, 20001+s.busyRows()-1)...)
	s.awaitCreated(runningBatch, s.busyRows()/3)
	fast.kill()
	s.worker("FACEKI_RATE=20/s", "FACEKI_BURST=5")
}

// busyRows is the number of rows of the batch that is being worked through.
func (s *system) busyRows() int {
	if *pictures != "" {
		return 12_400
	}
	return 3_000
}

// awaitCreated waits until a number of links of a batch have been created.
func (s *system) awaitCreated(batch string, n int) {
	s.Helper()
	s.Eventually(fmt.Sprintf("%d links of the batch %s have been created", n, batch), func() bool {
		counts, err := s.stores.Batches.Counts(s.Context(), batch)
		s.Must(err)
		return counts[request.Created] >= n
	})
}

// run runs a command of kyclink to its end.
func (s *system) run(args ...string) {
	s.Helper()
	p := s.start(nil, args...)
	<-p.over
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		s.Fatalf("kyclink %v: exit code %d\n%s", args, code, p.log.String())
	}
}

// breakFaceKi begins an outage, and waits until it has closed the gate.
func (s *system) breakFaceKi() {
	s.Helper()
	s.script(simulator.Script{Outage: &simulator.Fault{Name: "http_503"}})
	s.Eventually("the gate is closed", func() bool {
		status, err := s.stores.Account.Status(s.Context())
		s.Must(err)
		return status.Gate.State != "open"
	})
}
