package api

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/delivery"
	"github.com/kyclink/kyclink/internal/operator"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

// undelivered ends a request whose receiver refused its event, and returns the id of the
// event. The delivery is retried after a pause, or given up if that is 0.
func (s *harness) undelivered(id, host, reason string, again time.Duration) string {
	s.Helper()
	client := tasks.NewClient(s.Redis, tasks.Config{Account: s.Keys.Account, Callbacks: tasks.Callbacks{Hosts: []string{"*"}}})
	_, err := client.Enqueue(s.Context(), tasks.Request{ApplicationID: id, CallbackURL: "https://" + host + "/secret-path"})
	s.Must(err)
	s.expect(s.send("DELETE", "/v1/links/"+url.PathEscape(id), ""), http.StatusOK, "")
	entries, err := s.Redis.XRevRangeN(s.Context(), s.Keys.Results(), "+", "-", 1).Result()
	s.Must(err)
	event, err := tasks.ParseEvent(entries[0].Values)
	s.Must(err)
	_, err = s.ledger.Deliveries.Open(s.Context(), []tasks.Event{event})
	s.Must(err)
	d, _, err := s.ledger.Deliveries.Begin(s.Context(), delivery.Task{EventID: event.ID})
	s.Must(err)
	_, err = s.ledger.Deliveries.End(s.Context(), d, delivery.Reply{Code: 500, Reason: reason, Message: "HTTP 500"}, again)
	s.Must(err)
	return event.ID
}

// deliveries returns the request of each delivery on all pages.
func (s *harness) deliveries(path string) (ids []string) {
	s.Helper()
	for cursor := ""; ; {
		a := s.expect(s.send("GET", path+cursor, ""), http.StatusOK, "")
		if strings.Contains(string(a.body), "secret-path") {
			s.Errorf("the page has the path of a callback URL: %s", a.body)
		}
		page := decode[deliveryPage](s, a)
		for _, d := range page.Deliveries {
			ids = append(ids, d.ApplicationID)
		}
		if page.Next == "" {
			return ids
		}
		cursor = "&cursor=" + url.QueryEscape(page.Next)
	}
}

func TestListDeliveries_ReturnsWhatMatches(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	for i := range 7 {
		host, reason := "shop.example:8443", "receiver_error"
		if i%2 == 1 {
			host, reason = "other.example", "timeout"
		}
		s.undelivered(fmt.Sprintf("A-%d", i), host, reason, 0)
	}
	s.undelivered("R-1", "shop.example", "timeout", time.Hour)
	s.undelivered("R-2", "shop.example", "receiver_error", time.Minute)
	for query, want := range map[string][]string{
		"":                               {"A-6", "A-5", "A-4", "A-3", "A-2", "A-1", "A-0"},
		"status=given_up":                {"A-6", "A-5", "A-4", "A-3", "A-2", "A-1", "A-0"},
		"host=SHOP.example.":             {"A-6", "A-4", "A-2", "A-0"},
		"host=shop.example:8443":         {"A-6", "A-4", "A-2", "A-0"},
		"host=shop.example:443":          nil,
		"reason=timeout":                 {"A-5", "A-3", "A-1"},
		"status=retrying":                {"R-2", "R-1"},
		"status=retrying&reason=timeout": {"R-1"},
		"since=2099-01-01T00:00:00Z":     nil,
		"before=2020-01-01T00:00:00Z&status=retrying": nil,
	} {
		for _, limit := range []string{"1", "3", "500"} {
			if got := s.deliveries("/v1/deliveries?limit=" + limit + "&" + query); !slices.Equal(got, want) {
				t.Errorf("%s, %s on a page: got %v, want %v", query, limit, got, want)
			}
		}
	}
	for query, want := range map[string]int{
		"status=delivered": 400, "limit=0": 400, "limit=501": 400, "since=yesterday": 400, "since=2026-12-01T00:00:00Z&before=2026-11-01T00:00:00Z": 400, "cursor=x": 400, "color=red": 400, "batch=none": 404,
	} {
		reason := map[int]string{400: "invalid", 404: "not_found"}[want]
		s.expect(s.send("GET", "/v1/deliveries?"+query, ""), want, reason)
	}
	first := decode[deliveryPage](t, s.send("GET", "/v1/deliveries?limit=1", ""))
	s.expect(s.send("GET", "/v1/deliveries?status=retrying&cursor="+first.Next, ""), http.StatusBadRequest, "invalid")
}

func TestDelivery_IsRetriedAndDropped(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	given, pending := s.undelivered("A/1", "shop.example", "timeout", 0), s.undelivered("A-2", "shop.example", "timeout", time.Hour)
	before := len(s.trail.actions())
	act := func(event, action string, status int, reason string) answer {
		t.Helper()
		return s.expect(s.send("POST", "/v1/deliveries/"+url.PathEscape(event)+"/"+action, ""), status, reason)
	}
	for _, action := range []string{"retry", "drop"} {
		act("unknown", action, http.StatusNotFound, "not_found")
		act(pending, action, http.StatusConflict, "wrong_state")
	}
	for range 2 {
		if d := decode[operator.Delivery](t, act(given, "drop", http.StatusOK, "")); !d.Dropped || d.EventID != given {
			t.Errorf("got %+v, want it dropped", d)
		}
	}
	if got := s.deliveries("/v1/deliveries?limit=9"); len(got) != 0 {
		t.Errorf("the list has %v, want nothing", got)
	}
	for range 2 {
		if d := decode[operator.Delivery](t, act(given, "retry", http.StatusAccepted, "")); d.EventID != given {
			t.Errorf("got %+v, want the delivery", d)
		}
	}
	if n := s.Redis.LLen(t.Context(), "asynq:{"+s.Keys.Queue(request.Callbacks)+"}:pending").Val(); n != 1 {
		t.Errorf("%d tasks are enqueued, want 1", n)
	}
	want := []string{"callbacks.drop " + given, "callbacks.drop " + given, "callbacks.retry " + given, "callbacks.retry " + given}
	if got := s.trail.actions()[before:]; !slices.Equal(got, want) {
		t.Errorf("the audit trail has %q, want %q", got, want)
	}
	s.expect(s.send("POST", "/v1/deliveries/"+url.PathEscape(given)+"/retry", "", "Authorization", "Bearer read"), http.StatusForbidden, "forbidden")
}

func TestListLinkDeliveries_PagesThroughTheEventsOfARequest(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	s.expect(s.send("GET", "/v1/links/A-1/deliveries", ""), http.StatusNotFound, "not_found")
	s.expect(s.send("POST", "/v1/links", `{"application_id":"A-0"}`), http.StatusAccepted, "")
	if got := s.deliveries("/v1/links/A-0/deliveries?limit=1"); len(got) != 0 {
		t.Errorf("a request without a callback URL has deliveries: %v", got)
	}
	s.undelivered("A-1", "shop.example", "timeout", 0)
	for generation := 2; generation <= 4; generation++ {
		s.Must(s.Redis.RPush(t.Context(), s.Keys.Deliveries("A-1"), fmt.Sprint("e-", generation)).Err())
		s.Must(s.Redis.HSet(t.Context(), s.Keys.Delivery(fmt.Sprint("e-", generation)), "application_id", "A-1", "generation", generation, "run", 1,
			"type", "link.created", "host", "shop.example", "status", "delivered", "created_at", 1_700_000_000_000).Err())
	}
	for _, limit := range []int{1, 2, 3, 4, 500} {
		if got := s.deliveries(fmt.Sprintf("/v1/links/A-1/deliveries?limit=%d", limit)); len(got) != 4 {
			t.Errorf("%d on a page: got %d deliveries, want 4", limit, len(got))
		}
	}
	for _, query := range []string{"limit=0", "limit=501", "cursor=x", "cursor=MDE", "status=delivered"} {
		s.expect(s.send("GET", "/v1/links/A-1/deliveries?"+query, ""), http.StatusBadRequest, "invalid")
	}
}

// A delivery that cannot be decoded hides no other, and not its request.
func TestHistory_ShowsTheDeliveriesThatItCanDecode(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	first := s.undelivered("A-1", "shop.example", "timeout", 0)
	client := tasks.NewClient(s.Redis, tasks.Config{Account: s.Keys.Account, Callbacks: tasks.Callbacks{Hosts: []string{"*"}}})
	_, err := client.Enqueue(t.Context(), tasks.Request{ApplicationID: "A-1", Generation: 2, CallbackURL: "https://shop.example/hooks"})
	s.Must(err)
	s.expect(s.send("DELETE", "/v1/links/A-1", ""), http.StatusOK, "")
	entries, err := s.Redis.XRevRangeN(t.Context(), s.Keys.Results(), "+", "-", 1).Result()
	s.Must(err)
	event, err := tasks.ParseEvent(entries[0].Values)
	s.Must(err)
	_, err = s.ledger.Deliveries.Open(t.Context(), []tasks.Event{event})
	s.Must(err)
	s.Must(s.Redis.HSet(t.Context(), s.Keys.Delivery(first), "attempts", "many").Err())
	h := decode[operator.History](t, s.expect(s.send("GET", "/v1/links/A-1/history", ""), http.StatusOK, ""))
	if !slices.Equal(h.Unreadable, []string{first}) || len(h.Deliveries) != 1 || h.Deliveries[0].EventID != event.ID {
		t.Errorf("the history has %+v, and cannot decode %v; want %s, and that %s cannot be decoded", h.Deliveries, h.Unreadable, event.ID, first)
	}
	page := decode[deliveryPage](t, s.expect(s.send("GET", "/v1/links/A-1/deliveries", ""), http.StatusOK, ""))
	if page.Unreadable != 1 || len(page.Deliveries) != 1 {
		t.Errorf("the page is %+v", page)
	}
}
