package stall

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestNobodyIsLateOnAnIdleMachine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := New()
		<-time.After(time.Second) // of the bubble's clock
		if late := w.Longest(); late != 0 {
			t.Errorf("%v late", late)
		}
		w.see(30 * time.Millisecond)
		w.see(20 * time.Millisecond)
		if late := w.Longest(); late != 30*time.Millisecond {
			t.Errorf("%v late", late)
		}
		w.Close()
		w.Close()
	})
}
