package admission

import (
	"fmt"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/fixture"
)

// The history keeps the changes of an hour and the one before it, but at least 50.
func TestHistory_IsTrimmedByAge(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name              string
		older, recent     int // changes before; the newest is a minute old, if it is recent
		pauses, remaining int
	}{
		{"few", 10, 20, 1, 32},
		{"old ones", 80, 0, 10, 50},
		{"many in the hour", 30, 70, 3, 1 + 70 + 6},
		{"a few old ones at a time", 60, 0, 1, 50},
		{"a clock that went back", 0, -80, 10, 50},
	} {
		a := fixture.NewAccount(t)
		key, account := a.Keys.Tag()+":history", NewAccount(a.Redis, a.Keys.Account)
		now := a.Redis.Time(t.Context()).Val()
		push := func(at time.Time) {
			a.Must(a.Redis.RPush(t.Context(), key, fmt.Sprintf("%d closed outage", at.UnixMilli())).Err())
		}
		for range tt.older {
			push(now.Add(-48 * time.Hour))
		}
		for range tt.recent {
			push(now.Add(-time.Minute))
		}
		for range -tt.recent {
			push(now.Add(5 * time.Hour))
		}
		for range tt.pauses {
			a.Must(account.Pause(t.Context(), "ann", ""))
			a.Must(account.Resume(t.Context()))
		}
		all, err := History(t.Context(), a.Redis, a.Keys)
		a.Must(err)
		if len(all) != tt.remaining {
			t.Errorf("%s: %d changes remain, want %d", tt.name, len(all), tt.remaining)
		}
		status, err := Read(t.Context(), a.Redis, a.Keys)
		a.Must(err)
		if want := min(tt.remaining, statusHistory); len(status.History) != want || status.History[want-1] != all[len(all)-1] {
			t.Errorf("%s: the status has %d changes, want the last %d", tt.name, len(status.History), want)
		}
	}
}
