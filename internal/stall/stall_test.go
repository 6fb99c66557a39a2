package stall

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestWatch_RecordsTheLongestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := New()
		<-time.After(time.Second) // on the synthetic clock
		if delay := w.Longest(); delay != 0 {
			t.Errorf("longest delay without any: got %v, want 0", delay)
		}
		w.record(30 * time.Millisecond)
		w.record(20 * time.Millisecond)
		if delay := w.Longest(); delay != 30*time.Millisecond {
			t.Errorf("longest delay of 30ms and 20ms: got %v", delay)
		}
		w.Close()
		w.Close()
	})
}
