package tasks_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

// The answer is the same whether the caller guesses the content of another's request
// right or wrong.
func TestCaller_OnlyOwnSeesNoRequestsOfOthers(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	shop := h.Client.As(tasks.Caller{ID: "k1", OnlyOwn: true})
	partner := h.Client.As(tasks.Caller{ID: "k2", OnlyOwn: true})
	operator := h.Client.As(tasks.Caller{ID: "k3"})
	first := tasks.Request{ApplicationID: "A-1", RedirectURL: "https://shop.example/1", Metadata: []byte(`{"a":1}`)}
	_, err := shop.Enqueue(t.Context(), first)
	h.Must(err)
	h.enqueue(tasks.Request{ApplicationID: "A-2"}) // without a caller, as in records of earlier versions

	refused := func(by *tasks.Client, req tasks.Request, keys ...string) {
		t.Helper()
		link, err := by.Enqueue(t.Context(), req)
		e, ok := errors.AsType[*tasks.ForeignError](err)
		if !ok || link.ApplicationID != "" || !slices.Equal(e.Keys, keys) || tasks.ReasonOf(err) != "conflict" {
			t.Errorf("enqueue %+v: got %+v, %v; want a ForeignError with the keys %v", req, link, err, keys)
		}
		answers, err := by.Preview(t.Context(), []tasks.Request{req})
		h.Must(err)
		if _, ok := errors.AsType[*tasks.ForeignError](answers[0].Err); !ok {
			t.Errorf("preview %+v: got %+v, want a ForeignError", req, answers[0])
		}
	}
	wrong := first
	wrong.RedirectURL, wrong.Metadata = "https://shop.example/2", []byte(`{"a":2}`)
	for _, req := range []tasks.Request{first, wrong} {
		refused(partner, req, "application_id", "redirect_url", "metadata")
	}
	refused(partner, tasks.Request{ApplicationID: "A-1"}, "application_id")
	refused(partner, tasks.Request{ApplicationID: "A-2"}, "application_id")
	refused(partner, tasks.Request{ApplicationID: "A-1", Generation: 3}, "application_id")

	h.setState("A-1", request.Created)
	refused(partner, tasks.Request{ApplicationID: "A-1", Generation: 2}, "application_id")
	if _, err := operator.Enqueue(t.Context(), tasks.Request{ApplicationID: "A-1", Generation: 2}); err != nil {
		t.Errorf("a caller that sees all requests cannot request the next generation: %v", err)
	}
	if link, err := shop.Enqueue(t.Context(), tasks.Request{ApplicationID: "A-1", Generation: 1}); err != nil || link.Generation != 1 {
		t.Errorf("the caller's own earlier generation: got %+v, %v", link, err)
	}
	refused(shop, tasks.Request{ApplicationID: "A-1"}, "application_id") // the latest generation is another caller's
	refused(partner, tasks.Request{ApplicationID: "A-1", Generation: 1}, "application_id")
}

// A batch belongs to the caller that created it, and a row to the caller that sent it.
func TestCaller_OnlyOwnCannotExtendBatchesOfOthers(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	shop := h.Client.As(tasks.Caller{ID: "k1", OnlyOwn: true})
	partner := h.Client.As(tasks.Caller{ID: "k2", OnlyOwn: true})
	options := tasks.Options{RedirectURL: "https://shop.example/1"}
	importAs := func(by *tasks.Client, batch tasks.Batch) (results []tasks.Result, err error) {
		err = by.EnqueueAll(t.Context(), batch, rows(1, 2), func(r tasks.Result) { results = append(results, r) })
		return results, err
	}
	for _, want := range []tasks.Acceptance{tasks.Fresh, tasks.Earlier} {
		got, err := importAs(shop, tasks.Batch{Name: "spring", Options: options})
		if err != nil || got[0].Err != nil || got[0].Acceptance != want {
			t.Errorf("the caller's own batch: got %+v, %v; want rows that are %s", got, err, want)
		}
	}
	for _, o := range []tasks.Options{options, {RedirectURL: "https://shop.example/2"}} {
		got, err := importAs(partner, tasks.Batch{Name: "spring", Options: o})
		e, ok := errors.AsType[*tasks.ForeignError](err)
		if !ok || len(got) > 0 || !slices.Equal(e.Keys, []string{"batch", "redirect_url"}) {
			t.Errorf("another caller's batch: got %+v, %v; want a ForeignError", got, err)
		}
	}
	got, err := importAs(partner, tasks.Batch{Name: "summer"})
	h.Must(err)
	for _, r := range got {
		if _, ok := errors.AsType[*tasks.ForeignError](r.Err); !ok {
			t.Errorf("another caller's row: got %+v, want a ForeignError", r)
		}
	}
	got, err = importAs(h.Client, tasks.Batch{Name: "spring", Options: options})
	if err != nil || got[0].Acceptance != tasks.Earlier {
		t.Errorf("a client without a caller: got %+v, %v; want rows that are %s", got, err, tasks.Earlier)
	}
	if by := h.record(got[0].Row.Request.ApplicationID).Content; by.By != "k1" || by.Row != 1 {
		t.Errorf("got record content %+v, want caller k1 and row 1", by)
	}
}

func TestRedirectHosts_OfClientAndCallerBothApply(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	shop := tasks.NewClient(h.Redis, tasks.Config{Account: h.Keys.Account, RedirectHosts: []string{"Shop.example.", "partner.example"}})
	partner := shop.As(tasks.Caller{ID: "k", RedirectHosts: []string{"partner.example", "evil.example"}})
	for _, tt := range []struct {
		by   *tasks.Client
		url  string
		want string // the beginning of the problem, or "" for none
	}{
		{h.Client, "https://any.example/", ""},
		{shop, "https://SHOP.example:8443/x", ""},
		{shop, "https://partner.example", ""},
		{shop, "", ""},
		{shop, "https://evil.example/?shop.example", "must not lead to evil.example: KYCLINK_REDIRECT_HOSTS allows"},
		{shop, "https://shop.example.evil.example/", "must not lead to"},
		{shop, "https://evil.example#@shop.example", "must not lead to"},
		{partner, "https://partner.example/", ""},
		{partner, "https://shop.example/", "must not lead to shop.example: this API key allows"},
		{partner, "https://evil.example/", "must not lead to evil.example: KYCLINK_REDIRECT_HOSTS allows"},
	} {
		req := tasks.Request{ApplicationID: "A-" + strings.Map(func(c rune) rune {
			if c < '!' || c > '~' {
				return -1
			}
			return c
		}, tt.url), RedirectURL: tt.url}
		answers, err := tt.by.EnqueueEach(t.Context(), []tasks.Request{req})
		h.Must(err)
		row := tasks.Row{Number: 1, Request: req, Validated: true}
		var inBatch error
		h.Must(tt.by.EnqueueAll(t.Context(), tasks.Batch{Name: req.ApplicationID}, rowsOf([]tasks.Row{row}), func(r tasks.Result) { inBatch = r.Err }))
		asDefault := tt.by.EnqueueAll(t.Context(), tasks.Batch{Name: "d" + req.ApplicationID, Options: tasks.Options{RedirectURL: tt.url}}, rowsOf(nil), ignore)
		for _, err := range []error{answers[0].Err, inBatch, asDefault} {
			if (err == nil) != (tt.want == "") || err != nil && (!strings.Contains(err.Error(), "redirect_url: "+tt.want) || tasks.ReasonOf(err) != "invalid") {
				t.Errorf("%s: got %v, want problem %q", tt.url, err, tt.want)
			}
		}
	}
}
