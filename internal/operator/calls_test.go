package operator

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/request"
)

func TestCalls_AreThoseOfAllRuns(t *testing.T) {
	at := time.Date(2026, 11, 30, 9, 0, 0, 0, time.UTC)
	after := func(ms int) *int { return &ms }
	r := request.Record{
		ApplicationID: "A-1", Attempts: 4,
		Past: []request.Outcome{{Run: 1, Status: request.Failed, Attempts: []request.Attempt{
			{Number: 1, At: int(at.UnixMilli()), Took: after(1449), Reason: "throttled", Message: "FaceKi asks for fewer calls"},
			{Number: 2, At: int(at.UnixMilli()), Uncertain: true},
		}}},
		Outcome: request.Outcome{
			Run: 2, Status: request.Created, Took: after(0), EndedAt: at,
			Attempts: []request.Attempt{{Number: 3, At: int(at.UnixMilli()), Took: after(30_000), Reason: "timeout", Uncertain: true}},
		},
	}
	const want = `[` +
		`{"attempt":1,"run":1,"at":"2026-11-30T09:00:00Z","duration_ms":1449,"outcome":"no_link","reason":"throttled","message":"FaceKi asks for fewer calls"},` +
		`{"attempt":2,"run":1,"at":"2026-11-30T09:00:00Z","outcome":"unknown","message":"The process that made the call ended before it recorded an answer."},` +
		`{"attempt":3,"run":2,"at":"2026-11-30T09:00:00Z","duration_ms":30000,"outcome":"unknown","reason":"timeout"},` +
		`{"attempt":4,"run":2,"at":"2026-11-30T09:00:00Z","duration_ms":0,"outcome":"created"}]`
	got, err := json.Marshal(callsOf(r))
	if err != nil || string(got) != want {
		t.Errorf("got %s, %v\nwant %s", got, err, want)
	}
	for i, want := range []string{"1.4s", "", "30s", "less than 1ms"} {
		if got := callsOf(r)[i].Duration(); got != want {
			t.Errorf("the duration of call %d is %q, want %q", i, got, want)
		}
	}
}
