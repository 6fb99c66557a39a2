package activity

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/fixture"
)

// The hour of these tests begins at 09:01:00 and ends at 10:00:30.
var present = time.Date(2026, 5, 4, 10, 0, 30, 0, time.UTC)

// changes parses "09:10:00 closed outage, 09:11:00 open".
func changes(t *testing.T, text string) (all []admission.HistoryEntry) {
	t.Helper()
	for _, part := range strings.Split(text, ", ") {
		f := append(strings.Fields(part), "")
		at, err := time.Parse("15:04:05", f[0])
		fixture.Must(t, err)
		all = append(all, admission.HistoryEntry{At: at.AddDate(2026, 4, 3), State: f[1], Reason: f[2]})
	}
	return all
}

func TestClosed_FollowsTheChangesOfTheGate(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, changes, created, want string }{
		{"one period", "09:10:00 closed outage, 09:12:30 open", "", "outage 09:10:00-09:12:30 2m30s"},
		{"a ramp is open", "09:10:00 closed outage, 09:12:30 ramping, 09:13:00 closed outage, 09:14:00 open", "", "outage 09:10:00-09:12:30 2m30s, outage 09:13:00-09:14:00 1m0s"},
		{"it lasts", "09:58:30 closed no_credit", "", "no_credit 09:58:30-10:00:30 2m0s lasts"},
		{"it began before the hour", "08:00:00 closed outage, 09:05:00 open", "", "outage 09:01:00-09:05:00 4m0s"},
		{"it ended before the hour", "08:00:00 closed outage, 08:05:00 open", "", ""},
		{"another reason", "09:10:00 closed outage, 09:11:00 closed no_credit, 09:12:00 open", "", "outage 09:10:00-09:11:00 1m0s, no_credit 09:11:00-09:12:00 1m0s"},
		{"a pause", "09:10:00 closed paused, 09:11:00 open", "", "paused 09:10:00-09:11:00 1m0s"},
		{
			"throttling", "09:10:00 closed throttled, 09:10:02 open, 09:10:05 closed throttled, 09:10:09 open, 09:10:24 closed throttled, 09:10:25 open", "",
			"throttled 09:10:00-09:10:09 6s 2 times, throttled 09:10:24-09:10:25 1s",
		},
		{"two credentials", "09:10:00 closed refused, 09:11:00 closed refused, 09:12:00 open refused, 09:13:00 open refused", "", "refused 09:10:00-09:13:00 3m0s"},
		{"refused during an outage", "09:10:00 closed outage, 09:11:00 closed refused, 09:12:00 open, 09:13:00 open refused", "", "outage 09:10:00-09:12:00 2m0s, refused 09:11:00-09:13:00 2m0s"},
		{"other credentials make links", "09:10:30 closed refused", "09:10:00 09:14:00", "refused 09:10:30-09:14:00 3m30s"},
		{"the clock went back", "10:10:00 closed outage", "", ""},
	} {
		h := Hour{At: present}
		for at := present.Truncate(time.Minute).Add(-59 * time.Minute); !at.After(present); at = at.Add(time.Minute) {
			m := Minute{At: at}
			if strings.Contains(tt.created, at.Format(time.TimeOnly)) {
				m.Created = 1
			}
			h.Minutes = append(h.Minutes, m)
		}
		var got []string
		for _, p := range closedPeriods(changes(t, tt.changes), h) {
			text := fmt.Sprintf("%s %s-%s %s", p.Reason, p.From.Format(time.TimeOnly), p.To.Format(time.TimeOnly), p.Closed)
			if p.Times > 1 {
				text += fmt.Sprintf(" %d times", p.Times)
			}
			if p.Lasts {
				text += " lasts"
			}
			got = append(got, text)
		}
		if got := strings.Join(got, ", "); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestHour_HasAllPausesOfAnAccount(t *testing.T) {
	t.Parallel()
	a := fixture.NewAccount(t)
	account := admission.NewAccount(a.Redis, a.Keys.Account)
	const pauses = 60 // the status shows fewer
	for range pauses {
		fixture.Must(t, account.Pause(t.Context(), "ann", ""))
		fixture.Must(t, account.Resume(t.Context()))
	}
	fixture.Must(t, account.Pause(t.Context(), "ann", ""))
	if all, err := admission.History(t.Context(), a.Redis, a.Keys); err != nil || len(all) != 2*pauses+1 {
		t.Errorf("the history has %d changes (%v), want %d", len(all), err, 2*pauses+1)
	}
	got := hour(t, NewStore(a.Redis, a.Keys)).Closed
	if n := len(got); n == 0 || !got[n-1].Lasts || got[n-1].Reason != "paused" {
		t.Errorf("got %+v, want a pause that lasts", got)
	}
}
