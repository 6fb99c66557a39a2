package asynqx

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Asynq truncates the time at which a task is due to a second.
func TestLater_RunsNoTaskBeforeItsTime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(1_790_000_000, rapid.Int64Range(0, 1e9-1).Draw(t, "ns"))
		delay := time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "delay"))
		kept := time.Unix(now.Add((&Later{delay}).wholeSeconds()).Unix(), 0)
		if early := now.Add(delay).Sub(kept); delay > 0 && early > 0 || early <= -time.Second {
			t.Fatalf("a task for %s is due %s earlier, want not earlier and less than 1s later", now.Add(delay), early)
		}
	})
}
