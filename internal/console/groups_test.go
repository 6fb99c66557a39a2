package console

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/request"
)

func TestFailed_AreGroupedByReason(t *testing.T) {
	h := newHarness(t)
	h.restore("spring", "S", 12, request.Failed, "timeout", "")
	h.restore("spring", "W", 3, request.Failed, "workflow_rules", "no rules <i>")
	h.restore("autumn", "A", 5, request.Failed, "timeout", "")
	h.restore("autumn", "H", 2, request.Held, "unknown_outcome", "")
	b := h.signedIn(apikey.Read, apikey.Operate)
	for path, want := range map[string][]string{
		"/failed":                             {"<b>17</b>", "<b>3</b>", `href="/failed?reason=workflow_rules"`, "Give the workflow its rules", "Retry 20 requests", "Latest: no rules &lt;i&gt;"},
		"/failed?batch=spring":                {"<b>12</b>", "<b>3</b>", `href="/failed?batch=spring&amp;reason=timeout"`, "Retry 15 requests"},
		"/failed?batch=spring&reason=timeout": {"<b>12</b>", "<b>3</b>", `<li aria-current="true">`, "Retry 12 requests", "Drop 12 requests"},
		"/failed?lane=interactive":            {"No failed request matches."},
		"/failed?since=30m":                   {"No failed request matches."},
		"/failed?before=30m&reason=timeout":   {"Retry 17 requests"},
		"/held":                               {"<b>2</b>", "unknown outcome", "may bill a second link", "Retry 2 requests"},
		"/failed/groups?batch=spring":         {"<b>12</b>"},
		"/held/groups?reason=unusable_answer": {"<b>2</b>"},
	} {
		for _, text := range want {
			b.waitFor(path, text)
		}
	}
	h.Eventually("no interactive request is counted", func() bool {
		p := b.get("/failed/groups?lane=interactive", http.StatusOK)
		if strings.Contains(p.text, "t-groups") {
			t.Fatalf("there is a group of no request:\n%s", p.text)
		}
		return !strings.Contains(p.text, "hx-trigger")
	})
	if p := b.get("/failed?reason=workflow_rules", http.StatusOK); len(findAll(p.text, `href="/request?id=W-`)) != 3 || len(findAll(p.text, `href="/request?id=`)) != 3 {
		t.Errorf("the list has other requests:\n%s", p.text)
	}
	for _, wrong := range []string{"/failed?since=x", "/failed?since=1h&before=2h", "/failed?batch=summer", "/held?cursor=x", "/callbacks?status=x", "/callbacks?before=x"} {
		b.get(wrong, http.StatusUnprocessableEntity)
	}
}

func TestFailed_HasPages(t *testing.T) {
	h := newHarness(t)
	const n = pageSize + 7
	h.restore("spring", "S", n, request.Failed, "timeout", "")
	b := h.signedIn(apikey.Read)
	next := findAll(b.get("/failed?reason=timeout", http.StatusOK).text, `rel="next" href="`)
	if len(next) != 1 || !strings.HasPrefix(next[0], "/failed?") {
		t.Fatalf("the next page is %v", next)
	}
	p := b.get(strings.ReplaceAll(next[0], "&amp;", "&"), http.StatusOK)
	if got := len(findAll(p.text, `href="/request?id=`)); got != n-pageSize {
		t.Errorf("the second page has %d requests, want %d", got, n-pageSize)
	}
}

func TestReasons_AllHaveAMeaning(t *testing.T) {
	for _, r := range append(fault.Ends(), fault.Holds()...) {
		if m := requestMeaning(string(r)); m.Means == "" || m.Retry == "" || m.Advice == "" {
			t.Errorf("%s has no meaning", r)
		}
	}
	for _, r := range deliveryReasons() {
		if m := deliveryMeaning(r); m.Means == "" || m.Retry == "" || m.Advice == "" {
			t.Errorf("%s has no meaning", r)
		}
	}
}

// A long count continues in the background, and its result is used for a while.
func TestTallies_CountInTheBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stopping := make(chan struct{})
		defer close(stopping)
		all := newTallies(stopping)
		var counts atomic.Int32
		count := func(_ context.Context, add func([]member)) error {
			counts.Add(1)
			add([]member{{group: "a", at: time.Unix(5, 0), message: "old"}, {group: "b", at: time.Unix(5, 0)}})
			time.Sleep(10 * time.Second) //nolint:forbidigo // of a bubble
			add([]member{{group: "a", at: time.Unix(9, 0), message: "new"}})
			return nil
		}
		get := func(after time.Duration, what string, total int, counting, partial bool, n int32) tally {
			t.Helper()
			time.Sleep(after) //nolint:forbidigo // of a bubble
			got, err := all.get(t.Context(), "key", count)
			if err != nil || got.Total != total || got.Counting != counting || got.Partial != partial || counts.Load() != n {
				t.Errorf("%s: got %+v, %v after %d counts", what, got, err, counts.Load())
			}
			return got
		}
		get(0, "at first", 2, true, true, 1)
		get(time.Second, "a second later", 2, true, true, 1)
		got := get(10*time.Second, "at the end", 3, false, false, 1)
		if a := got.Groups[0]; a.Name != "a" || a.Number != 2 || a.Message != "new" || !a.Oldest.Equal(time.Unix(5, 0)) || !a.Newest.Equal(time.Unix(9, 0)) || got.Share(a) != barWidth {
			t.Errorf("the first group is %+v", a)
		}
		get(time.Minute, "a minute later", 3, false, false, 1)
		get(10*time.Minute, "much later", 3, true, false, 2)
		get(time.Minute, "after the second count", 3, false, false, 2)
	})
}

func TestCounter_CountsWhatTimePermits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var count counter = func(ctx context.Context, add func([]member)) error {
			add([]member{{group: "a"}})
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(5 * time.Second):
				add([]member{{group: "a"}})
				return nil
			}
		}
		for limit, want := range map[time.Duration]tally{time.Second: {Total: 1, Partial: true}, time.Minute: {Total: 2}} {
			if got, err := count.within(t.Context(), limit); err != nil || got.Total != want.Total || got.Partial != want.Partial {
				t.Errorf("within %v: got %+v, %v", limit, got, err)
			}
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := count.within(ended, time.Second); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v after the request has ended", err)
		}
	})
}

func TestTallies_AreLimitedAndEndWithTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stopping := make(chan struct{})
		all := newTallies(stopping)
		hang := func(ctx context.Context, _ func([]member)) error { <-ctx.Done(); return ctx.Err() }
		for _, key := range []string{"a", "b", "c", "d"} {
			if got, err := all.get(t.Context(), key, hang); err != nil || !got.Partial {
				t.Errorf("got %+v, %v", got, err)
			}
		}
		for i := range mostTallies {
			_, err := all.get(t.Context(), fmt.Sprint(i), hang)
			if full := i >= mostTallies-4; full != (err != nil) {
				t.Errorf("list %d: got %v", i, err)
			}
		}
		close(stopping)
		synctest.Wait()
		fails := errors.New("no answer")
		if _, err := newTallies(make(chan struct{})).get(t.Context(), "a", func(context.Context, func([]member)) error { return fails }); !errors.Is(err, fails) {
			t.Errorf("got %v", err)
		}
	})
}
