package console

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kyclink/kyclink/internal/activity"
	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/fault"
)

// hourAt returns an hour without activity that ends at 10:00:30.
func hourAt() activity.Hour {
	h := activity.Hour{At: time.Date(2026, 5, 4, 10, 0, 30, 0, time.UTC)}
	for i := range 60 {
		h.Minutes = append(h.Minutes, activity.Minute{At: h.At.Truncate(time.Minute).Add(time.Duration(i-59) * time.Minute)})
	}
	return h
}

func TestChart_DrawsMinutesToScale(t *testing.T) {
	t.Parallel()
	h := hourAt()
	h.Minutes[0].Created = 40
	h.Minutes[30].Created, h.Minutes[30].Faults = 1_000, map[fault.Reason]int{fault.Timeout: 2, fault.Throttled: 6}
	h.Minutes[59].Created, h.Minutes[59].Faults = 1, map[fault.Reason]int{fault.Timeout: 1}
	h.Closed = []activity.Period{{
		Reason: fault.Outage, From: h.Minutes[30].At.Add(15 * time.Second), To: h.Minutes[33].At, Times: 1, Closed: 2*time.Minute + 45*time.Second,
	}, {Reason: fault.Outage, From: h.Minutes[10].At, To: h.Minutes[10].At.Add(5 * time.Second), Times: 3, Closed: 3 * time.Second}}
	c := newChart(h)
	if c.Empty || c.Created != 1_041 || c.Failed != 9 || c.Links.Top != 1_000 || c.Faults.Top != 8 {
		t.Errorf("got %d links up to %d and %d faults up to %d", c.Created, c.Links.Top, c.Failed, c.Faults.Top)
	}
	want := "[{0.2% 96% 4% false} {50.2% 0% 100% false} {98.53% 98% 2% true}]" // a link among many can be seen
	if got := fmt.Sprint(c.Bars); got != want {
		t.Errorf("got bars %s, want %s", got, want)
	}
	want = "[{throttled 6 [{50.2% 25% 75% false}]} {timeout 3 [{50.2% 0% 25% false} {98.53% 87.5% 12.5% true}]}]"
	if got := fmt.Sprint(c.Series); got != want {
		t.Errorf("got series %s, want %s", got, want)
	}
	if b := c.Closed[0]; b.X != "50.42%" || b.Width != "4.58%" || b.Text() != "gate closed for 2m 45s: outage" {
		t.Errorf("got %+v: %s", b, b.Text())
	}
	if label := c.Label(); !strings.HasSuffix(label, "9 faults (6 throttled, 3 timeout); gate closed 4 times, for 2m 48s: outage.") {
		t.Errorf("got label %q", label)
	}
	ticks := ""
	for _, k := range c.Ticks {
		ticks += k.At.Format(" 15:04 ") + k.X
	}
	if want := " 09:15 23.33% 09:30 48.33% 09:45 73.33% 10:00 98.33%"; ticks != want {
		t.Errorf("got ticks%s, want%s", ticks, want)
	}
	var rows []string
	for _, r := range c.Rows {
		rows = append(rows, fmt.Sprintf("%s: %s", r.Title(), r.Closed))
	}
	minutes := []string{
		"10:00 UTC, so far: 1 link, 1 fault (1 timeout): []",
		"09:33 UTC: 0 links, gate closed 1m, outage: [1m, outage]",
		"09:32 UTC: 0 links, gate closed 1m, outage: [1m, outage]",
		"09:31 UTC: 1,000 links, 8 faults (6 throttled, 2 timeout), gate closed 45s, outage: [45s, outage]",
		"09:11 UTC: 0 links, gate closed at times, outage: [at times, outage]",
		"09:01 UTC: 40 links: []",
	}
	if !slices.Equal(rows, minutes) {
		t.Errorf("got rows %q, want %q", rows, minutes)
	}
}

func TestScale_EndsWithARoundNumber(t *testing.T) {
	t.Parallel()
	for most, want := range map[int]string{
		0: "4 2 0", 3: "4 2 0", 5: "6 3 0", 10: "10 5 0", 11: "16 8 0", 17: "20 10 0", 100: "100 50 0", 101: "160 80 0", 330: "400 200 0",
		9_000: "10k 5,000 0", 30_000: "40k 20k 0", 1_500_000: "1.6M 800k 0",
	} {
		if got := strings.Join(newScale(most).Labels, " "); got != want {
			t.Errorf("%d: got %s, want %s", most, got, want)
		}
	}
}

// count adds to the activity of the account.
func (h *harness) count(links int, faults ...fault.Reason) {
	h.Helper()
	var c activity.Counter
	for range links {
		c.Created()
	}
	for _, reason := range faults {
		c.Failed(reason)
	}
	h.Must(h.Stores.Activity.Flush(h.Context(), &c))
}

func TestNow_ShowsTheLastHour(t *testing.T) {
	h := newHarness(t)
	b := h.signedIn(apikey.Read)
	if p := b.get("/", http.StatusOK); !strings.Contains(p.text, "No link was created and no call failed in the last hour.") || strings.Contains(p.text, `class="plots"`) {
		t.Error("an account without activity does not say so")
	}
	h.console.hour.at = time.Time{} // read again
	h.count(1_234, fault.Timeout, fault.Timeout, `<script>alert("1")</script>`)
	h.Must(h.console.account.Pause(t.Context(), "ann", ""))
	p := b.get("/", http.StatusOK)
	for _, want := range []string{
		"<b>1,234</b>", `timeout <b>2</b>`, `<g data-series="links"><rect `, `<g data-series="timeout"><rect `, "2 timeout, 1 &lt;script&gt;", "gate closed for", "<td>3</td>",
	} {
		if !strings.Contains(p.text, want) {
			t.Errorf("the page does not contain %s:\n%s", want, p.text)
		}
	}
	if found := forbidden(t, p.text); len(found) > 0 {
		t.Errorf("the page contains %q", found)
	}
}

// A browser gets the chart when it connects, and then only if it changes.
func TestLive_SendsTheChartOnlyIfItChanges(t *testing.T) {
	h := newHarness(t)
	b := h.signedIn(apikey.Read)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, h.url+livePath, nil)
	h.Must(err)
	resp, err := b.http.Do(r)
	h.Must(err)
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	event := func() string {
		var text strings.Builder
		for lines.Scan() && lines.Text() != "" {
			text.WriteString(lines.Text() + "\n")
		}
		h.Must(lines.Err())
		return text.String()
	}
	for i := range 3 {
		if got := strings.Contains(event(), `hx-target="#hour-chart"`); got != (i == 0) {
			t.Errorf("update %d has the chart: %v", i, got)
		}
	}
	h.count(77)
	for !strings.Contains(event(), "<b>77</b>") {
	}
}

func TestHour_IsReadOnceForAllAndReplacedOnlyByChanges(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reads, links := 0, 1
		h := &hour{
			read: func(context.Context) (activity.Hour, error) {
				reads++
				read := hourAt()
				read.Minutes[3].Created = links
				return read, nil
			},
			render: func(c chart) ([]byte, error) { return fmt.Append(nil, c.Created), nil },
		}
		ask := func() *[]byte {
			var all sync.WaitGroup
			for range 50 {
				all.Go(func() {
					if c, err := h.latest(t.Context()); err != nil || c.Created != links {
						t.Errorf("got %d links, %v; want %d", c.Created, err, links)
					}
				})
			}
			all.Wait()
			return h.update()
		}
		if h.update() != nil {
			t.Error("there is an update before anything was read")
		}
		first := ask()
		ask()
		time.Sleep(hourAge) //nolint:forbidigo // of a bubble
		if again := ask(); reads != 2 || again != first {
			t.Errorf("read %d times, want 2; same update: %v", reads, again == first)
		}
		time.Sleep(hourAge) //nolint:forbidigo // of a bubble
		links = 2
		if changed := ask(); reads != 3 || changed == first || !slices.Equal(*changed, []byte("2")) {
			t.Errorf("read %d times, want 3; got update %s", reads, *changed)
		}
	})
}
