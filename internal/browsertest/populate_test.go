//go:build browser

package browsertest

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/action"
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
		account.Keys = keyspace.Keys{Account: "northwind"}
	}
	account.Client = tasks.NewClient(account.Redis, tasks.Config{Account: account.Keys.Account, Callbacks: tasks.Callbacks{
		Hosts: []string{"127.0.0.1"}, AllowCIDRs: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	}})
	s := startSystem(t, account, simulator.New(simulator.Config{Script: someFaults}), nil, callbackSettings()...)
	s.populate()
	return s
}

// callbackSecret signs the callbacks of a system with [callbackSettings].
var callbackSecret = "whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 24))

// callbackSettings permit callbacks to receivers of the tests.
func callbackSettings() []string {
	return []string{"KYCLINK_CALLBACK_HOSTS=127.0.0.1", "KYCLINK_CALLBACK_ALLOW_CIDRS=127.0.0.0/8", "KYCLINK_CALLBACK_SECRET=" + callbackSecret}
}

// populate brings an account of a system without workers into that state.
func (s *system) populate() {
	s.Helper()
	s.key("Signup service", apikey.Enqueue, apikey.Read)
	s.key("Support desk", apikey.Read)
	_, old := s.key("Old partner", apikey.Enqueue)
	_, err := s.keys.Revoke(s.Context(), old)
	s.Must(err)

	s.populateHour()
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
	s.startAction(action.Request{Kind: action.RetryFailed, Filter: action.Filter{Batch: doneBatch}, Rate: "50/s"})
	s.populateCallbacks()

	// What is to be left is imported when the fast worker cannot call it any more.
	s.importRows(pausedBatch, numbered("P", 1, 100)...)
	s.awaitCount(pausedBatch, request.Created, 100)
	s.run("batch", "pause", pausedBatch)
	s.importRows(pausedBatch, numbered("P", 101, 400)...)
	third := s.busyRows() / 3
	s.importRows(runningBatch, numbered("N", 20001, 20000+third)...)
	s.awaitCount(runningBatch, request.Created, third)
	fast.stop()
	s.importRows(runningBatch, numbered("N", 20001+third, 20000+s.busyRows())...)
	s.worker("FACEKI_RATE=20/s", "FACEKI_BURST=5")
	s.Eventually("the speed is that of the second worker", func() bool {
		now, err := s.reader.Snapshot(s.Context())
		s.Must(err)
		return now.Workers == 1 && now.Rate.Used > 10 && now.Rate.Used < 25
	})
}

// populateHour stores what the workers did in the last hour, with an outage in the middle.
func (s *system) populateHour() {
	s.Helper()
	now, err := s.Redis.Time(s.Context()).Result()
	s.Must(err)
	const minutes, begin, end = 59, 34, 27 // of the outage, before now
	for ago := minutes; ago > 0; ago-- {
		created := 1020 + int(170*math.Sin(float64(ago)/6)) + ago%3*25
		counts := map[string]any{"created": created, "timeout": ago % 2}
		switch {
		case ago == begin:
			counts = map[string]any{"created": 310, "upstream_unavailable": 42}
		case ago < begin && ago > end:
			counts = map[string]any{"upstream_unavailable": 5}
		case ago == end:
			counts["created"] = created / 2
		}
		key := s.Keys.Activity(now.Unix()/60 - int64(ago))
		s.Must(s.Redis.HSet(s.Context(), key, counts).Err())
		s.Must(s.Redis.Expire(s.Context(), key, 2*time.Hour).Err())
	}
	for _, change := range []struct {
		ago   int
		state string
	}{{begin, "closed"}, {end, "open"}} {
		at := now.Add(-time.Duration(change.ago) * time.Minute).UnixMilli()
		s.Must(s.Redis.RPush(s.Context(), s.Keys.Tag()+":history", fmt.Sprintf("%d %s outage", at, change.state)).Err())
		s.Must(s.Redis.HSet(s.Context(), s.Keys.Tag()+":gate", "since", at).Err()) // of its present state
	}
}

// populateCallbacks makes callbacks that were delivered, are being retried, and were given up.
func (s *system) populateCallbacks() {
	s.Helper()
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status := map[string]int{"/busy": http.StatusServiceUnavailable, "/closed": http.StatusGone}[r.URL.Path]
		w.WriteHeader(cmp.Or(status, http.StatusNoContent))
	}))
	s.Cleanup(receiver.Close)
	for n, path := range []string{"/accepted", "/busy", "/closed", "/closed", "/accepted", "/busy"} {
		id := fmt.Sprint("S-", 20417+n)
		s.enqueue(tasks.Request{ApplicationID: id, Metadata: []byte(`{"source":"signup"}`), CallbackURL: receiver.URL + path})
		s.await(id, tasks.Created)
	}
	s.Eventually("callbacks have been given up and are retried", func() bool {
		now, err := s.reader.Snapshot(s.Context())
		s.Must(err)
		return now.Deliveries.GivenUp == 2 && now.Deliveries.Retrying == 2
	})
}

// startAction starts an action, and waits until it is done.
func (s *system) startAction(r action.Request) {
	s.Helper()
	store := action.NewStore(s.Redis, s.Keys.Account)
	if len(r.IDs) == 0 {
		r.Filter.Before = time.Now()
	}
	plan, err := store.Plan(s.Context(), r)
	s.Must(err)
	started, err := store.Start(s.Context(), plan, plan.Token, "Mara")
	s.Must(err)
	s.Eventually("the action is done", func() bool {
		a, _, err := store.Get(s.Context(), started.ID)
		s.Must(err)
		return a.State == action.Done
	})
}

// busyRows is the number of rows of the batch that is being worked through.
func (s *system) busyRows() int {
	if *pictures != "" {
		return 12_400
	}
	return 3_000
}

// awaitCount waits until a number of rows of a batch, or more, are in a state.
func (s *system) awaitCount(batch string, state request.State, n int) {
	s.Helper()
	s.Eventually(fmt.Sprintf("%d rows of the batch %s are %s", n, batch, state), func() bool {
		counts, err := s.stores.Batches.Counts(s.Context(), batch)
		s.Must(err)
		return counts[state] >= n
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
	s.importRows(runningBatch, numbered("N", 90_001, 90_100)...) // the batch may be done
	s.Eventually("the gate is closed", func() bool {
		status, err := s.stores.Account.Status(s.Context())
		s.Must(err)
		return status.Gate.State != "open"
	})
}
