package diagnosis

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/delivery"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/results"
	"github.com/kyclink/kyclink/tasks"
)

var now = time.Date(2026, 11, 29, 14, 0, 0, 0, time.UTC)

// healthy is an account with two workers and nothing to do.
func healthy() Snapshot {
	return Snapshot{
		At: now, Account: "default", Gate: admission.GateStatus{State: "open"}, Rate: admission.RateStatus{Limit: "5/s", Burst: 5},
		Workers: 2, LastHeartbeat: now.Add(-time.Second),
	}
}

// The parts of situations.

func busy(s *Snapshot) {
	s.Bulk = Lane{Waiting: 970, Queued: 30, Due: 30, Oldest: now.Add(-time.Minute)}
	s.Rate.Used, s.Calls, s.Asking = 4.9, 3, 1
}

func onlyBacklog(s *Snapshot) {
	s.Bulk = Lane{Waiting: 970, Queued: 30, Due: 30, Oldest: now.Add(-time.Minute)}
}
func noWorkers(s *Snapshot) { s.Workers, s.LastHeartbeat = 0, now.Add(-3*time.Minute) }
func interactiveQueued(s *Snapshot) {
	s.Interactive = Lane{Queued: 1, Due: 1, Oldest: now.Add(-2 * time.Second)}
}

func gate(state string, reason fault.Reason, message string) func(*Snapshot) {
	return func(s *Snapshot) {
		s.Gate = admission.GateStatus{State: state, Reason: string(reason), Since: now.Add(-10 * time.Minute), Message: message}
		if state == "closed" && reason != fault.Paused {
			s.Gate.NextProbe = now.Add(5 * time.Second)
		}
	}
}

func probeIn(d time.Duration) func(*Snapshot) {
	return func(s *Snapshot) { s.Gate.NextProbe = now.Add(d) }
}

func batchPaused(name string, own int, reason fault.Reason) func(*Snapshot) {
	return func(s *Snapshot) {
		s.Paused.Batches++
		s.Paused.First = append(s.Paused.First, paused(name, own, reason))
	}
}

func paused(name string, own int, reason fault.Reason) batch.Batch {
	return batch.Batch{
		Batch: name, Status: batch.Paused, Reason: reason, Message: "code 1003: workflow not found",
		Counts: map[request.State]int{request.Waiting: own}, JoinedCounts: map[request.State]int{},
	}
}

func lagging(behind, idle time.Duration) func(*Snapshot) {
	return func(s *Snapshot) {
		s.Results.Groups = []results.Group{{Group: "shop", Live: true, Lag: 1200, Pending: 34, Behind: behind.Seconds(), Idle: idle.Seconds()}}
	}
}

func retrying(s *Snapshot) {
	s.Deliveries = Deliveries{Pending: 12, Retrying: 12, NextAt: now.Add(8 * time.Second), Host: "shop.example", Message: "HTTP 503"}
}

// mib is a mebibyte.
const mib = 1 << 20

var update = flag.Bool("update", false, "write the golden file again")

func reopened(s *Snapshot) {
	s.Gate = admission.GateStatus{State: "ramping", Since: now.Add(-4 * time.Second)}
}

func with(changes ...func(*Snapshot)) Snapshot {
	s := healthy()
	for _, change := range changes {
		change(&s)
	}
	return s
}

func set(change func(*Snapshot)) func(*Snapshot) { return change }

// accounts are situations of an account.
var accounts = []struct {
	name string
	Snapshot
}{
	{"nothing at all", with()},
	{"nothing, and no worker", with(noWorkers)},
	{"a backlog, and no worker any more", with(onlyBacklog, noWorkers)},
	{"a signup, and never a worker", with(interactiveQueued, set(func(s *Snapshot) { s.Workers, s.LastHeartbeat = 0, time.Time{} }))},
	{"no worker since the clock went back", with(onlyBacklog, set(func(s *Snapshot) { s.Workers, s.LastHeartbeat = 0, now.Add(time.Hour) }))},
	{"callbacks to send, and no worker", with(noWorkers, set(func(s *Snapshot) { s.Deliveries.Pending = 7 }))},
	{"intake entries, and no worker", with(noWorkers, set(func(s *Snapshot) { s.Intake.Entries = 3 }))},
	{"no worker, and the account paused", with(onlyBacklog, noWorkers, gate("closed", fault.Paused, ""))},

	{"a backlog at the rate limit", with(busy)},
	{"a backlog that takes less than a minute", with(busy, set(func(s *Snapshot) { s.Bulk.Waiting = 247 }))},
	{"a million requests", with(busy, set(func(s *Snapshot) { s.Bulk.Waiting = 1_000_000 }))},
	{"a signup in flight", with(set(func(s *Snapshot) { s.Calls = 1 }))},
	{"a signup waits for its turn", with(interactiveQueued)},
	{"the concurrency limit is too low", with(busy, set(func(s *Snapshot) { s.Rate, s.Asking = admission.RateStatus{Limit: "50/s", Used: 12}, 0 }))},
	{"the gate has opened", with(onlyBacklog, reopened)},
	{"the workers call nothing", with(onlyBacklog)},
	{"the workers call nothing yet", with(onlyBacklog, set(func(s *Snapshot) { s.Bulk.Oldest = now.Add(-5 * time.Second) }))},
	{"a rate of one call an hour", with(onlyBacklog, set(func(s *Snapshot) { s.Rate.Limit = "1/h" }))},

	{"a rate of one call an hour for millions of requests", with(onlyBacklog, set(func(s *Snapshot) { s.Rate.Limit, s.Bulk.Waiting = "1/h", 3_000_000 }))},

	{"calls are not answered", with(busy, set(func(s *Snapshot) { s.Calls, s.Asking, s.Rate.Used, s.Silence = 4, 0, 0.3, 9*time.Second }))},
	{"a signup is not answered", with(set(func(s *Snapshot) { s.Calls, s.Silence = 1, 70*time.Second }))},
	{"calls were not answered before the gate closed", with(busy, gate("closed", fault.Outage, ""), set(func(s *Snapshot) { s.Silence = time.Minute }))},
	{"an outage", with(onlyBacklog, gate("closed", fault.Outage, "FaceKi is not available (HTTP 503)"))},
	{"an outage, and a probe", with(onlyBacklog, gate("probing", fault.Outage, "FaceKi is not available (HTTP 503)"))},
	{"an outage, and nothing waits", with(gate("closed", fault.Outage, "no connection to FaceKi"))},
	{"an outage, and requests that are held", with(onlyBacklog, gate("closed", fault.Outage, ""), set(func(s *Snapshot) { s.Held = 3 }))},
	{"an outage, and much that needs a person", with(onlyBacklog, gate("closed", fault.Outage, ""), lagging(time.Hour, time.Hour),
		set(func(s *Snapshot) { s.Held, s.Quarantined, s.Deliveries.GivenUp = 1, 3, 4 }))},
	{"an outage, and a probe that is due", with(onlyBacklog, gate("closed", fault.Outage, ""), probeIn(-time.Minute))},
	{"an outage, and nothing that can be the probe", with(gate("closed", fault.Outage, ""), probeIn(-time.Minute))},
	{"an outage, and neither a request nor a worker", with(gate("closed", fault.Outage, ""), probeIn(-time.Minute), noWorkers)},
	{"no credit, and no worker", with(gate("closed", fault.NoCredit, ""), probeIn(-time.Minute), noWorkers)},
	{"throttled, and no worker", with(gate("closed", fault.Throttled, ""), noWorkers)},
	{"an outage since yesterday", with(onlyBacklog, gate("closed", fault.Outage, ""), set(func(s *Snapshot) { s.Gate.Since = now.Add(-20 * time.Hour) }))},
	{"an outage without an answer, after an earlier one with", with(onlyBacklog, gate("closed", fault.Outage, "code 5003"), set(func(s *Snapshot) { s.Gate.MessageAt = now.Add(-20 * time.Minute) }))},
	{"throttled", with(onlyBacklog, gate("closed", fault.Throttled, ""))},
	{"wrong credentials", with(onlyBacklog, gate("closed", fault.Refused, "FaceKi refuses the credentials (HTTP 401)"))},
	{"wrong credentials, one request waits", with(interactiveQueued, gate("closed", fault.Refused, ""))},
	{"no credit", with(onlyBacklog, gate("closed", fault.NoCredit, "code 5003"))},
	{"limit reached", with(onlyBacklog, gate("closed", fault.LimitReached, "code 5009"))},
	{"paused account", with(onlyBacklog, gate("closed", fault.Paused, ""))},
	{"paused account, by whom and why", with(onlyBacklog, gate("closed", fault.Paused, ""), set(func(s *Snapshot) {
		s.Gate.PausedBy, s.Gate.PauseReason = "ann@desk", "FaceKi moves to a new host"
	}))},
	{"a reason of a newer version", with(onlyBacklog, gate("closed", "moon_phase", ""))},

	{"all that waits is in a paused batch", with(batchPaused("spring", 1000, fault.Paused), set(func(s *Snapshot) { s.Bulk.Waiting = 1000 }))},
	{"a paused batch with a name that a shell evaluates", with(batchPaused("spring $(id)'s", 1000, fault.Paused), set(func(s *Snapshot) { s.Bulk.Waiting = 1000 }))},
	{"its rows were refused", with(batchPaused("spring", 1000, fault.RowsRefused), set(func(s *Snapshot) { s.Bulk.Waiting = 1000 }))},
	{"all that waits is in two paused batches", with(batchPaused("spring", 600, fault.Paused), batchPaused("autumn", 400, fault.Paused), set(func(s *Snapshot) { s.Bulk.Waiting = 1000 }))},
	{"a batch is paused, and a retry waits", with(batchPaused("spring", 1000, fault.Paused), set(func(s *Snapshot) {
		s.Bulk = Lane{Waiting: 1000, Queued: 1, NextDue: now.Add(time.Minute), Oldest: now.Add(-time.Hour)}
	}))},
	{"a batch is paused, and another one is called", with(busy, batchPaused("spring", 1000, fault.Paused), set(func(s *Snapshot) { s.Bulk.Waiting += 1000 }))},
	{"ten thousand batches are paused", with(batchPaused("spring", 7, fault.Paused), set(func(s *Snapshot) { s.Paused.Batches, s.Bulk.Waiting = 10_000, 70_000 }))},
	{"ten thousand batches are paused, and those that were read have ended", with(batchPaused("spring", 0, fault.Paused), set(func(s *Snapshot) { s.Paused.Batches, s.Bulk.Waiting = 10_000, 70_000 }))},
	{"one of several batches is paused", with(busy, batchPaused("spring", 100, fault.Paused))},
	{"a paused batch with nothing left", with(batchPaused("spring", 0, fault.Paused))},
	{"only retries wait", with(set(func(s *Snapshot) {
		s.Interactive = Lane{Queued: 3, NextDue: now.Add(20 * time.Minute), Oldest: now.Add(-time.Hour)}
	}))},
	{"only one retry waits", with(set(func(s *Snapshot) { s.Interactive = Lane{Queued: 1, NextDue: now.Add(time.Minute)} }))},
	{"retries wait, and others are called", with(busy, set(func(s *Snapshot) { s.Bulk.NextDue = now.Add(time.Minute) }))},

	{"held requests, and nothing else", with(set(func(s *Snapshot) { s.Held = 3 }))},
	{"one held request in a busy account", with(busy, set(func(s *Snapshot) { s.Held = 1 }))},
	{"failed requests", with(set(func(s *Snapshot) { s.Failed = 100_000 }))},
	{"given-up callbacks", with(set(func(s *Snapshot) { s.Deliveries.GivenUp = 1 }))},
	{"a receiver is down", with(retrying)},
	{"a receiver is down in a busy account", with(busy, retrying)},
	{"a consumer lags", with(lagging(20*time.Second, 100*time.Millisecond))},
	{"a consumer stopped", with(lagging(40*time.Second, 38*time.Second))},
	{"a consumer stopped hours ago", with(lagging(4*time.Hour, 4*time.Hour))},
	{"no worker delivers callbacks any more", with(lagging(4*time.Hour, 4*time.Hour), set(func(s *Snapshot) { s.Results.Groups[0].Group = delivery.Group }))},
	{"a consumer has just been given events", with(lagging(time.Second, 0))},
	{"the results stream is nearly full", with(set(func(s *Snapshot) { s.Results.Length, s.Results.Cap = 9_500_000, 10_000_000 }))},
	{"quarantined tasks", with(set(func(s *Snapshot) { s.Quarantined = 2 }))},
	{"rejected intake entries", with(set(func(s *Snapshot) { s.Intake.Rejects = 14 }))},

	{"Redis is full", with(onlyBacklog, set(func(s *Snapshot) { s.Redis = Redis{Used: 512 * mib, Max: 512 * mib} }))},
	{"Redis is full and evicts", with(busy, set(func(s *Snapshot) { s.Redis = Redis{Used: 512 * mib, Max: 512 * mib, Evicts: true} }))},
	{"Redis is nearly full", with(busy, set(func(s *Snapshot) { s.Redis = Redis{Used: 480 * mib, Max: 512 * mib} }))},
	{"Redis is nearly full and evicts", with(busy, set(func(s *Snapshot) { s.Redis = Redis{Used: 480 * mib, Max: 512 * mib, Evicts: true} }))},
	{"a snapshot failed, and Redis accepts writes", with(busy, set(func(s *Snapshot) { s.Redis.WriteError = "rdb_last_bgsave_status:err" }))},
	{"Redis cannot write to its disk", with(onlyBacklog, set(func(s *Snapshot) {
		s.Redis.WriteError, s.LastHeartbeat = "aof_last_write_status:err", now.Add(-8*time.Second)
	}))},
	{"Redis is a replica", with(onlyBacklog, set(func(s *Snapshot) { s.Redis.Replica = true }))},
	{"everything at once", with(onlyBacklog, noWorkers, gate("closed", fault.Outage, ""), retrying, lagging(time.Hour, time.Hour),
		set(func(s *Snapshot) { s.Held, s.Failed, s.Quarantined, s.Deliveries.GivenUp = 1, 2, 3, 4 }))},
}

// requests are situations of one request.
var requests = []struct {
	name string
	Snapshot
	RequestState
}{
	{"about to be called", with(interactiveQueued), queued(0)},
	{"its turn comes", with(busy), queued(30)},
	{"it is waiting", with(busy), waiting()},
	{"it is called", with(busy), RequestState{Link: link(tasks.Calling, tasks.Interactive)}},
	{"no worker", with(interactiveQueued, noWorkers), queued(0)},
	{"no worker, and read before it was accepted", with(noWorkers), queued(0)},
	{"called by a worker that died", with(noWorkers), RequestState{Link: link(tasks.Calling, tasks.Interactive)}},
	{"the gate is closed", with(interactiveQueued, gate("closed", fault.Outage, "HTTP 503")), queued(0)},
	{"the gate has opened", with(onlyBacklog, reopened), queued(40)},
	{"its batch is paused", with(busy), in(waiting(), paused("spring", 10, fault.Paused))},
	{"its batch is paused, and it was promoted", with(busy), in(queued(0), paused("spring", 10, fault.Paused))},
	{"it is retried later", with(), RequestState{Link: faulty(tasks.Queued), RetryAt: now.Add(3 * time.Minute)}},
	{"it is held", with(), RequestState{Link: faulty(tasks.Held)}},
	{"it has a not_after", with(interactiveQueued, gate("closed", fault.Outage, "")), RequestState{Link: link(tasks.Queued, tasks.Interactive), NotAfter: now.Add(time.Hour)}},
	{"it has failed", with(), RequestState{Link: faulty(tasks.Failed), NotAfter: now}},
	{"one with an ID that a shell evaluates has failed", with(), RequestState{Link: tasks.Link{ApplicationID: "-A;$(id)'s", Status: tasks.Failed}}},
	{"it has its link", with(), RequestState{Link: link(tasks.Created, tasks.Interactive)}},
	{"Redis is full", with(interactiveQueued, set(func(s *Snapshot) { s.Redis = Redis{Used: 512 * mib, Max: 512 * mib} })), queued(0)},
}

func link(status tasks.Status, lane tasks.Lane) tasks.Link {
	return tasks.Link{ApplicationID: "A-1001", Status: status, Lane: lane}
}

func faulty(status tasks.Status) tasks.Link {
	l := link(status, tasks.Interactive)
	l.Attempts, l.Reason, l.Message = 2, "upstream_error", "FaceKi failed while it handled the request (HTTP 500)"
	return l
}

func queued(ahead int) RequestState {
	return RequestState{Link: link(tasks.Queued, tasks.Interactive), Ahead: ahead}
}

func waiting() RequestState {
	return RequestState{Link: link(tasks.Waiting, tasks.Bulk), Ahead: 999}
}

func in(r RequestState, b batch.Batch) RequestState {
	r.Batch = &b
	return r
}

// batches are situations of one batch.
var batches = []struct {
	name string
	Snapshot
	batch.Batch
}{
	{"running", with(busy), running(4.9, now.Add(204*time.Second))},
	{"running, and another one's turn", with(busy), running(0, time.Time{})},
	{"no worker", with(onlyBacklog, noWorkers), running(0, time.Time{})},
	{"an outage", with(onlyBacklog, gate("closed", fault.Outage, "HTTP 503")), running(0, time.Time{})},
	{"paused", with(busy), paused("spring", 1000, fault.Paused)},
	{"paused, and no worker", with(busy, noWorkers), paused("spring", 1000, fault.Paused)},
	{"paused, as its rows were refused", with(busy), paused("spring", 1000, fault.RowsRefused)},
	{"done", with(), counts(batch.Done, map[request.State]int{request.Created: 990})},
	{"done, with rows for a person", with(), counts(batch.Done, map[request.State]int{request.Created: 990, request.Failed: 8, request.Held: 2})},
	{"cancelled", with(), counts(batch.Cancelled, map[request.State]int{request.Cancelled: 990})},
}

func running(throughput float64, eta time.Time) batch.Batch {
	b := counts(batch.Running, map[request.State]int{request.Waiting: 970, request.Queued: 30})
	b.Throughput, b.ETA = throughput, eta
	return b
}

func counts(status batch.Status, n map[request.State]int) batch.Batch {
	b := batch.Batch{Batch: "spring", Status: status, Counts: n, JoinedCounts: map[request.State]int{}}
	for _, rows := range n {
		b.Rows += rows
	}
	return b
}

// The golden file is what people read: each situation, what is said about it, and what to do.
func TestDiagnosis_NamesTheCauseAndTheNextStep(t *testing.T) {
	var text strings.Builder
	say := func(kind, name string, d Diagnosis) {
		fmt.Fprintf(&text, "%s: %s\n\t%s\n", kind, name, line(d.Finding))
		for _, f := range d.Findings {
			fmt.Fprintf(&text, "\t+ %s\n", line(f))
		}
		if d.More > 0 {
			fmt.Fprintf(&text, "\tand %d more\n", d.More)
		}
		text.WriteString("\n")
	}
	for _, c := range accounts {
		say("account", c.name, Account(c.Snapshot))
	}
	for _, c := range requests {
		say("request", c.name, Request(c.Snapshot, c.RequestState))
	}
	for _, c := range batches {
		say("batch", c.name, Batch(c.Snapshot, c.Batch))
	}
	const file = "testdata/situations.golden"
	if *update {
		if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got := text.String(); got != string(want) {
		t.Errorf("the diagnoses differ from %s; run with -update and read the difference:\n%s", file, got)
	}
}

func line(f Finding) string {
	text := fmt.Sprintf("%s %s: %s", f.State, f.Code, f.Text)
	if f.Next != "" {
		text += " → " + f.Next
	}
	if !f.ClearsAt.IsZero() {
		text += " [" + f.ClearsAt.Format(time.TimeOnly) + "]"
	}
	return text
}

// Alerts rely on codes: each that applies is listed for the metric, also if it is one of a
// further finding.
func TestCodes_HasTheCodesOfEachAccount(t *testing.T) {
	for _, c := range accounts {
		d := Account(c.Snapshot)
		codes := []Code{d.Code}
		for _, f := range c.beside() {
			codes = append(codes, f.Code)
		}
		for _, code := range codes {
			if !slices.Contains(Codes(), code) || !d.Applies(code) {
				t.Errorf("%s: %q is not in Codes, or does not apply", c.name, code)
			}
		}
	}
	for _, code := range Codes() {
		if Account(with()).Applies(code) != (code == NothingToDo) {
			t.Errorf("%q applies, or not, to an account with nothing at all", code)
		}
	}
}
