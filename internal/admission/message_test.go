package admission

import (
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/request"
)

// TestRead_ReturnsTheLastFaultThatCounts checks that the status keeps the message and the
// time of a fault only if the fault counts for the gate.
func TestRead_ReturnsTheLastFaultThatCounts(t *testing.T) {
	m, now := onRedis(t), start
	read := func() Status {
		t.Helper()
		s, err := Read(t.Context(), m.rdb, m.keys)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	report := func(signal Signal, message string, began time.Time) {
		now = now.Add(time.Second)
		m.Report(now, Report{Signal: signal, ID: "A-1", Process: "1", Credential: "fp", Began: began, Message: message})
	}
	if g := read().Gate; g.Message != "" || !g.MessageAt.IsZero() {
		t.Errorf("before any fault: %+v, want no message", g)
	}
	for _, signal := range []Signal{Outage, Unavailable, Throttle, NoCredit, LimitReached, Unconnected, NoToken} {
		report(signal, "FaceKi said "+string(signal), now)
		if g := read().Gate; g.Message != "FaceKi said "+string(signal) || !g.MessageAt.Equal(now) {
			t.Errorf("after %s at %s: %+v", signal, now, g)
		}
	}
	before := read().Gate
	for _, signal := range []Signal{Alive, None, Unused, Success} {
		report(signal, "does not count for the gate", now)
	}
	report(Outage, "", now) // by a version that sends no message
	if g := read().Gate; g.Message != before.Message || !g.MessageAt.Equal(before.MessageAt) {
		t.Errorf("after faults that do not count: %+v, want the message and the time of %+v", g, before)
	}
}

func TestRead_ReturnsWhyCredentialsAreRefused(t *testing.T) {
	m, now := onRedis(t), start
	report := func(message string) {
		m.Report(now, Report{Signal: Refused, ID: "A-1", Process: "1", Credential: "fp", Began: now, Message: message})
	}
	report("client id is required")
	refusedAt := now
	now = now.Add(61 * time.Second)
	for _, connected := range []bool{false, true} { // the probe of the credentials keeps the message
		m.Admit(now, Query{Lane: request.Bulk, Process: "1", Credential: "fp", ID: "A-1", Connected: connected})
	}
	s, err := Read(t.Context(), m.rdb, m.keys)
	if err != nil {
		t.Fatal(err)
	}
	if g := s.Gate; g.Reason != refused || g.Message != "client id is required" || !g.MessageAt.Equal(refusedAt) {
		t.Errorf("during the probe: gate %+v", g)
	}
	m.Report(now, Report{Signal: Outage, ID: "A-2", Process: "2", Credential: "other", Began: now, Message: "HTTP 500"})
	report("client secret is wrong")
	if s, err = Read(t.Context(), m.rdb, m.keys); err != nil || len(s.Refused) != 1 {
		t.Fatalf("%v; refused credentials: %+v, want 1", err, s.Refused)
	}
	if s.Gate.Message != "client secret is wrong" || s.Refused[0].Message != "client secret is wrong" || !s.Refused[0].MessageAt.Equal(now) {
		t.Errorf("after another refusal: %+v", s)
	}
}

// During a rollout the status follows the last answer: after all workers have been restarted
// with wrong credentials, none of them makes a link with those that were right before.
func TestRead_FollowsTheLastCredentials(t *testing.T) {
	m, now := onRedis(t), start
	expect := func(signal Signal, credential, message, reason string) {
		t.Helper()
		now = now.Add(time.Second)
		m.Report(now, Report{Signal: signal, ID: "A-1", Process: "1", Credential: credential, Began: now, Message: message})
		s, err := Read(t.Context(), m.rdb, m.keys)
		if err != nil {
			t.Fatal(err)
		}
		if s.Gate.Reason != reason || reason != "" && s.Gate.Message != message {
			t.Errorf("after %s with the credentials %s: gate %+v, want the reason %q with %q", signal, credential, s.Gate, reason, message)
		}
	}
	expect(Success, "old", "", "")
	expect(Refused, "mistyped", "client secret is wrong", refused)
	expect(Success, "old", "", "")
	expect(Refused, "mistyped-twice", "client secret is still wrong", refused)
	expect(Success, "new", "", "")
}
