package api

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/account"
	"github.com/kyclink/kyclink/internal/activity"
	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/audit"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/results"
)

func TestRate_IsSetAndReset(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	rate := func(a answer) string {
		t.Helper()
		r := decode[account.Status](t, s.expect(a, http.StatusOK, "")).Rate
		return fmt.Sprint(r.Limit, " ", r.Burst, " ", r.Overridden)
	}
	for _, step := range []struct{ method, body, want string }{
		{"PUT", `{"rate":"20/s","burst":40}`, "20/s 40 true"},
		{"PUT", `{"rate":"90/m"}`, "90/m 5 true"},
		{"DELETE", "", "5/s 5 false"},
		{"DELETE", "", "5/s 5 false"},
	} {
		if got := rate(s.send(step.method, "/v1/account/rate", step.body)); got != step.want {
			t.Errorf("%s %s: got %s, want %s", step.method, step.body, got, step.want)
		}
	}
	for body, status := range map[string]int{
		`{"rate":"fast"}`: 422, `{"rate":"0/s"}`: 422, `{}`: 422, `{"rate":"1/s","burst":1}`: 422, `{"rate":"1/s","burst":100001}`: 422,
		`{"rate":5}`: 400, `{"rate":"1/s","burst":2.5}`: 400, `{"rate":"1/s","color":1}`: 400, `[]`: 400, `null`: 400, `{"rate":"1/s"}{}`: 400, `{`: 400,
	} {
		s.expect(s.send("PUT", "/v1/account/rate", body), status, "invalid")
	}
	s.expect(s.send("PUT", "/v1/account/rate", ""), http.StatusUnsupportedMediaType, "unsupported_media_type")
	s.expect(s.send("PUT", "/v1/account/rate", `{"rate":"1/s"}`, "Authorization", "Bearer read,enqueue"), http.StatusForbidden, "forbidden")
	want := []string{"account.rate 20/s burst 40", "account.rate 90/m", "account.rate reset", "account.rate reset"}
	if got := s.trail.actions(); !slices.Equal(got, want) {
		t.Errorf("the audit trail has %q, want %q", got, want)
	}
}

func TestPause_ShowsOperatorsWhoAndWhy(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	s.Must(s.ledger.Fleet.Join(t.Context()))
	for _, body := range []string{`{"reason":"a\nb"}`, `{"reason":"` + strings.Repeat("x", 201) + `"}`} {
		s.expect(s.send("POST", "/v1/account/pause", body), http.StatusUnprocessableEntity, "invalid")
	}
	s.expect(s.send("POST", "/v1/account/pause", `{"why":"x"}`), http.StatusBadRequest, "invalid")
	paused := decode[account.Status](t, s.expect(s.send("POST", "/v1/account/pause", `{"reason":"FaceKi moves"}`), http.StatusOK, ""))
	if g := paused.Gate; g.Reason != "paused" || g.PausedBy != "name of "+allScopes || g.PauseReason != "FaceKi moves" {
		t.Errorf("got the gate %+v, want who paused it and why", g)
	}
	if got := s.trail.actions(); !slices.Equal(got, []string{"account.pause FaceKi moves"}) {
		t.Errorf("the audit trail has %q", got)
	}
	for scopes, want := range map[string]bool{"enqueue,read": true, "enqueue": false} {
		s.Eventually("the diagnosis names the pause to a key with "+scopes, func() bool {
			s.Must(s.ledger.Fleet.Heartbeat(t.Context(), nil))
			a := s.send("POST", "/v1/links", `{"application_id":"A-`+scopes+`"}`, "Authorization", "Bearer "+scopes)
			text := decode[unendedLink](t, s.expect(a, http.StatusAccepted, "")).Diagnosis.Text
			return strings.HasPrefix(text, "An operator paused the account") && strings.Contains(text, "FaceKi moves") == want
		})
	}
	again := decode[account.Status](t, s.expect(s.send("POST", "/v1/account/pause", ""), http.StatusOK, ""))
	if g := again.Gate; g.PauseReason != "" || !g.Since.Equal(paused.Gate.Since) {
		t.Errorf("got the gate %+v, want no reason and the time of the first pause", g)
	}
	resumed := decode[account.Status](t, s.expect(s.send("POST", "/v1/account/resume", ""), http.StatusOK, ""))
	if g := resumed.Gate; g.PausedBy != "" || g.State != "open" {
		t.Errorf("got the gate %+v, want it open", g)
	}
	changes := decode[gateHistory](t, s.expect(s.send("GET", "/v1/account/history", ""), http.StatusOK, "")).History
	if len(changes) != 2 || changes[0].State != "open" || changes[1].Reason != "paused" {
		t.Errorf("got the history %+v, want the resume and, before it, the pause", changes)
	}
}

func TestWorkers_HaveTheirHeartbeatAndCalls(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	workers := func() account.Workers {
		t.Helper()
		return decode[account.Workers](t, s.expect(s.send("GET", "/v1/workers", ""), http.StatusOK, ""))
	}
	if got := workers(); len(got.Workers) != 0 {
		t.Errorf("got %+v, want none", got)
	}
	s.Must(s.ledger.Fleet.Join(t.Context()))
	if got := workers().Workers; len(got) != 1 || int64(got[0].Process) != s.ledger.Fleet.Process() || time.Since(got[0].LastHeartbeat).Abs() > time.Minute {
		t.Errorf("got %+v, want process %d", got, s.ledger.Fleet.Process())
	}
	s.expect(s.send("GET", "/v1/workers", "", "Authorization", "Bearer operate"), http.StatusForbidden, "forbidden")
}

func TestGroups_AreListedWithTheirLag(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	groups := func() results.Status {
		t.Helper()
		return decode[results.Status](t, s.expect(s.send("GET", "/v1/results/groups", ""), http.StatusOK, ""))
	}
	if got := groups(); got.Length != 0 || got.Groups == nil || len(got.Groups) != 0 {
		t.Errorf("without a stream: got %+v, want an empty list", got)
	}
	s.expect(s.send("POST", "/v1/links", `{"application_id":"A-1"}`), http.StatusAccepted, "")
	s.expect(s.send("DELETE", "/v1/links/A-1", ""), http.StatusOK, "")
	for i := range maxGroups + 2 {
		s.Must(s.Redis.XGroupCreate(t.Context(), s.Keys.Results(), fmt.Sprintf("g-%03d", i), "0").Err())
	}
	if got := groups(); len(got.Groups) != maxGroups || got.MoreGroups != 2 || got.Groups[0].Lag != 1 || got.Length != 1 {
		t.Errorf("got %d groups, %d more, of %d events, want %d and 2 more of 1", len(got.Groups), got.MoreGroups, got.Length, maxGroups)
	}
}

func TestAudit_IsListedFromTheLatestOn(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	list := func(query string) (actions []string) {
		t.Helper()
		for cursor := ""; ; {
			page := decode[changePage](t, s.expect(s.send("GET", "/v1/audit?"+query+cursor, ""), http.StatusOK, ""))
			for _, c := range page.Changes {
				actions = append(actions, c.Target)
			}
			if page.Next == "" {
				return actions
			}
			cursor = "&cursor=" + page.Next
		}
	}
	if got := list("limit=5"); len(got) != 0 {
		t.Errorf("an empty trail lists %v", got)
	}
	trail, want := audit.NewTrail(s.Redis, s.Keys.Account), []string{}
	for i := range 25 {
		c := audit.Change{Key: apikey.Key{ID: "1", Name: "shop"}, Action: "links.cancel", Target: fmt.Sprint("A-", i), RequestID: "r"}
		if i%5 == 0 {
			c = audit.Change{By: "ann@desk", Action: "batches.pause", Target: fmt.Sprint("A-", i)}
		}
		s.Must(trail.Append(t.Context(), c))
		want = append([]string{c.Target}, want...)
	}
	for _, limit := range []string{"1", "7", "25", "1000"} {
		if got := list("limit=" + limit); !slices.Equal(got, want) {
			t.Errorf("%s on a page: got %v, want %v", limit, got, want)
		}
	}
	if got := list("since=2099-01-01T00:00:00Z"); len(got) != 0 {
		t.Errorf("changes of the future: %v", got)
	}
	if got := list("before=2020-01-01T00:00:00Z"); len(got) != 0 {
		t.Errorf("changes of long ago: %v", got)
	}
	for _, query := range []string{"cursor=x", "cursor=MDE", "cursor=OTk5OTk5OTk5OTk5OTk5OTk5OTktMA", "limit=0", "limit=1001", "since=2h", "key=1"} {
		s.expect(s.send("GET", "/v1/audit?"+query, ""), http.StatusBadRequest, "invalid")
	}
	s.expect(s.send("GET", "/v1/audit", "", "Authorization", "Bearer enqueue,operate"), http.StatusForbidden, "forbidden")
}

func TestActivity_IsThatOfTheLastHour(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	read := func() activity.Hour {
		t.Helper()
		a := s.expect(s.send("GET", "/v1/account/activity", ""), http.StatusOK, "")
		if strings.Contains(string(a.body), "null") {
			t.Errorf("got %s", a.body)
		}
		return decode[activity.Hour](t, a)
	}
	if h := read(); len(h.Minutes) != 60 || h.At.IsZero() || len(h.Closed) != 0 {
		t.Errorf("got %+v, want 60 minutes without activity", h)
	}
	var c activity.Counter
	c.Created()
	c.Created()
	c.Failed(fault.Timeout)
	s.Must(s.ledger.Activity.Flush(t.Context(), &c))
	s.expect(s.send("POST", "/v1/account/pause", ""), http.StatusOK, "")
	h, created, faults := read(), 0, 0
	for _, m := range h.Minutes {
		created, faults = created+m.Created, faults+m.Faults[fault.Timeout]
	}
	if created != 2 || faults != 1 || len(h.Closed) > 1 {
		t.Errorf("got %d links, %d faults, and %+v; want 2, 1, and the pause", created, faults, h.Closed)
	}
	s.Eventually("the pause lasts", func() bool {
		h := read()
		return len(h.Closed) == 1 && h.Closed[0].Reason == fault.Paused && h.Closed[0].Lasts
	})
	s.expect(s.send("GET", "/v1/account/activity", "", "Authorization", "Bearer operate"), http.StatusForbidden, "forbidden")
}
