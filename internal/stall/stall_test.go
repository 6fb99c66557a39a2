package stall

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestWatch_RecordsTheLongestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := New()
		<-time.After(time.Second) // of the bubble's clock
		if late := w.Longest(); late != 0 {
			t.Errorf("%v late", late)
		}
		w.record(30 * time.Millisecond)
		w.record(20 * time.Millisecond)
		if late := w.Longest(); late != 30*time.Millisecond {
			t.Errorf("%v late", late)
		}
		w.Close()
		w.Close()
	})
}
