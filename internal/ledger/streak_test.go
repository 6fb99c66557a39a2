package ledger

import (
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/redistest"
)

// A process judges others by their silence only where it was there itself to
// hear them: one that was stopped, as with a whole machine, was not.
func TestAProcessThatWasStoppedDoesNotJudge(t *testing.T) {
	t.Parallel()
	l := New(redistest.Start(t).Client(t), Config{Account: redistest.Account()})
	if err := l.Join(t.Context()); err != nil {
		t.Fatal(err)
	}
	ago := func(d time.Duration) int64 { return time.Now().Add(-d).UnixMilli() }
	for name, tt := range map[string]struct {
		reached, beaten time.Duration // ago
		judges          bool
	}{
		"it has just come":          {time.Second, 0, false},
		"it was there all the time": {time.Minute, time.Second, true},
		"a heartbeat takes long":    {time.Minute, mostBetween - time.Second, true},
		"it was stopped":            {time.Minute, 45 * time.Second, false},
		"its clock was put back":    {-time.Hour, -time.Hour, false},
	} {
		l.reached.Store(ago(tt.reached))
		l.beaten.Store(ago(tt.beaten))
		if got := l.unbroken() >= DeadAfter; got != tt.judges {
			t.Errorf("%s: it judges: %v, after %s", name, got, l.unbroken())
		}
		if err := l.Beat(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if got := l.unbroken() >= DeadAfter; got != tt.judges {
			t.Errorf("%s: after its next heartbeat it judges: %v, after %s", name, got, l.unbroken())
		}
		if l.reached.Load() > time.Now().UnixMilli() {
			t.Errorf("%s: it will not judge for long", name)
		}
	}
}
