package admission

import (
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/request"
)

// TestStatusTellsTheLastFault: only a fault that counts for the gate is kept, with its
// time, and credentials that are refused have their own.
func TestStatusTellsTheLastFault(t *testing.T) {
	m, now := onRedis(t), start
	read := func() Status {
		t.Helper()
		s, err := Read(t.Context(), m.rdb, m.keys)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	tell := func(kind Kind, message string, marked time.Time) {
		now = now.Add(time.Second)
		m.Report(now, Report{Kind: kind, ID: "A-1", Process: "1", Credential: "fp", Began: marked, Message: message})
	}
	if g := read().Gate; g.Message != "" || !g.MessageAt.IsZero() {
		t.Errorf("nothing happened yet: %+v", g)
	}
	for _, kind := range []Kind{Outage, Throttle, NoCredit, LimitReached, Unconnected} {
		tell(kind, "FaceKi said "+string(kind), now)
		if g := read().Gate; g.Message != "FaceKi said "+string(kind) || !g.MessageAt.Equal(now) {
			t.Errorf("%s: %+v at %s", kind, g, now)
		}
	}
	before := read().Gate
	for _, kind := range []Kind{Alive, None, Back, Success} {
		tell(kind, "says nothing of the account", now)
	}
	tell(Outage, "", now) // by a version that gives no message
	if g := read().Gate; g.Message != before.Message || !g.MessageAt.Equal(before.MessageAt) {
		t.Errorf("a fault that does not count was kept: %+v", g)
	}
}

func TestStatusTellsWhyCredentialsAreRefused(t *testing.T) {
	m, now := onRedis(t), start
	report := func(message string) {
		m.Report(now, Report{Kind: Refused, ID: "A-1", Process: "1", Credential: "fp", Began: now, Message: message})
	}
	report("client id is required")
	refusedAt := now
	now = now.Add(61 * time.Second)
	for _, connected := range []bool{false, true} { // the probe of the credentials keeps what was said
		m.Admit(now, Query{Lane: request.Bulk, Process: "1", Credential: "fp", ID: "A-1", Connected: connected})
	}
	s, err := Read(t.Context(), m.rdb, m.keys)
	if err != nil {
		t.Fatal(err)
	}
	if g := s.Gate; g.Reason != refused || g.Message != "client id is required" || !g.MessageAt.Equal(refusedAt) {
		t.Errorf("%+v", g)
	}
	m.Report(now, Report{Kind: Outage, ID: "A-2", Process: "2", Credential: "other", Began: now, Message: "HTTP 500"})
	report("client secret is wrong")
	if s, err = Read(t.Context(), m.rdb, m.keys); err != nil || len(s.Refused) != 1 {
		t.Fatal(err, s.Refused)
	}
	if s.Gate.Message != "client secret is wrong" || s.Refused[0].Message != "client secret is wrong" || !s.Refused[0].MessageAt.Equal(now) {
		t.Errorf("%+v", s)
	}
}
