package worker

import (
	"context"
	"reflect"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/delivery"
	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

// noon is any time.
var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func TestAttempt_HasTheSettingsInForce(t *testing.T) {
	optional := true
	a := attempt.Attempt{Record: request.Record{
		ApplicationID: "A-1", Generation: 2, Attempts: 3,
		Content:  request.Content{RedirectURL: "https://shop.example/done", DocumentOptional: &optional, Metadata: []byte(`{"a":1}`)},
		Resolved: request.Defaults{ExpiryMinutes: 9, WorkflowID: "wf-default"},
		Past:     []request.Outcome{{Kept: "sealed"}},
	}, At: noon, SendBy: noon.Add(time.Second)}
	want := Attempt{
		ApplicationID: "A-1", Generation: 2, Number: 3, Metadata: []byte(`{"a":1}`), AdmittedAt: noon, SendBy: noon.Add(time.Second),
		Settings: Settings{RedirectURL: "https://shop.example/done", ExpiryMinutes: 9, DocumentOptional: &optional, WorkflowID: "wf-default"},
	}
	if got := attemptOf(a); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	a.Content.WorkflowID = "wf-own"
	if s := attemptOf(a).Settings; s.WorkflowID != "wf-own" || !s.OwnWorkflow {
		t.Errorf("the request's own workflow: %+v", s)
	}
	keeper := &recordingKeeper{}
	link, f := upstream{keeper}.kept(a)
	if keeper.got.Kept != "sealed" || link != (request.Link{LinkID: "L-1", URL: "https://kyc.example/L-1", RequestedAt: noon}) || f != nil {
		t.Errorf("a kept link: %+v, %+v, %+v", keeper.got, link, f)
	}
	if _, f := (upstream{stub{}.withoutKeeper()}).kept(a); f == nil || f.Kind != fault.Unusable || f.Kept != "sealed" {
		t.Errorf("an upstream that keeps no links: %+v", f)
	}
}

// recordingKeeper records the attempt whose kept link it returns.
type recordingKeeper struct {
	stub
	got Attempt
}

func (k *recordingKeeper) Kept(a Attempt) (Link, *Fault) {
	k.got = a
	return Link{LinkID: "L-1", URL: "https://kyc.example/L-1", RequestedAt: noon}, nil
}

// withoutKeeper returns the upstream without its method Kept.
func (s stub) withoutKeeper() Upstream { return struct{ Upstream }{s} }

func TestFault_KeepsAllFields(t *testing.T) {
	public := Fault{Kind: Unusable, Detail: "HTTP 200", RetryAfter: time.Second, Kept: "sealed", Renewed: true}
	for _, v := range []any{public, *faultOf(&public)} {
		for i := range reflect.ValueOf(v).NumField() {
			if reflect.ValueOf(v).Field(i).IsZero() {
				t.Errorf("%T.%s is lost", v, reflect.TypeOf(v).Field(i).Name)
			}
		}
	}
	if f := faultOf(&public); f.Kind != fault.Unusable || faultOf(nil) != nil {
		t.Errorf("got %+v", f)
	}
}

func TestPoster_GetsTheEventAndItsURL(t *testing.T) {
	reply := Reply{Code: 503, Reason: "receiver_error", RetryAfter: time.Minute}
	p := &postbox{answer: func(Delivery) Reply { return reply }}
	got := poster{p}.Post(t.Context(), delivery.Delivery{
		EventID: "e-1", Type: "link.created", ApplicationID: "A-1", Generation: 2, Run: 3, URL: "https://shop.example/hooks", Body: []byte("{}"),
	})
	want := Delivery{EventID: "e-1", Type: "link.created", ApplicationID: "A-1", Generation: 2, Run: 3, URL: "https://shop.example/hooks", Body: []byte("{}")}
	reply.At = got.At // set by the postbox
	if !reflect.DeepEqual(p.posted, []Delivery{want}) || got != delivery.Reply(reply) {
		t.Errorf("posted %+v, returned %+v", p.posted, got)
	}
}

// countingMeter records the attempts that it is given.
type countingMeter struct {
	noMeter
	attempts []string
}

func (m *countingMeter) Attempt(_ context.Context, lane tasks.Lane, outcome, reason string, took time.Duration) {
	m.attempts = append(m.attempts, string(lane)+" "+outcome+" "+reason+" "+took.String())
}

func TestMeter_CountsOnlyCallsThatWereSent(t *testing.T) {
	meter := &countingMeter{}
	o := newAttemptObserver(Telemetry{Meter: meter})
	a := attempt.Attempt{Record: request.Record{Lane: request.Bulk}, Took: time.Second}
	for _, f := range []*fault.Fault{nil, {Kind: fault.Lost}, {Kind: fault.Unavailable}, {Kind: fault.Interrupted}} {
		o.attempted(t.Context(), a, f, request.Queued)
	}
	want := []string{"bulk created  1s", "bulk unknown connection 1s", "bulk no_link upstream_unavailable 1s"}
	if !reflect.DeepEqual(meter.attempts, want) {
		t.Errorf("got %q, want %q", meter.attempts, want)
	}
}

func TestJournal_GetsRecordsAsJSON(t *testing.T) {
	h := newHarness(t, simulator.Script{})
	written := make(chan string, 100)
	h.cfg.Journal = journalFunc(func(record []byte) { written <- string(record) })
	h.cfg.Account.Rate, h.cfg.Account.Burst = Rate{N: 1000, Per: time.Second}, 1000
	h.run(New(h.Redis, h.faceki, h.cfg))
	h.accept("A-1")
	h.created("A-1")
	fixture.Eventually(t, "two records are written", func() bool { return len(written) == 2 })
	for _, want := range []string{`{"application_id":"A-1","state":"calling",`, `{"application_id":"A-1","state":"created",`} {
		if got := <-written; len(got) < len(want) || got[:len(want)] != want {
			t.Errorf("got %s, want %s…", got, want)
		}
	}
}

type journalFunc func(record []byte)

func (f journalFunc) Write(_ context.Context, record []byte) error { f(record); return nil }
