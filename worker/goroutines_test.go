package worker

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

func TestGoroutines_AreReused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g goroutines
		defer g.Wait()
		for range 100 {
			var both sync.WaitGroup
			both.Add(2)
			for range 2 {
				g.Go(both.Done)
			}
			both.Wait()
			synctest.Wait()
		}
		if got := len(g.spare); got != 2 {
			t.Errorf("%d goroutines for two functions at a time, want 2", got)
		}
	})
}

func TestGoroutines_WaitForWhatRunsAndEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // which fails if a goroutine remains
		var g goroutines
		var ended atomic.Int32
		hang := make(chan struct{})
		for range 3 {
			g.Go(func() { <-hang; ended.Add(1) })
		}
		waited := make(chan struct{})
		go func() { g.Wait(); close(waited) }()
		synctest.Wait()
		select {
		case <-waited:
			t.Error("Wait returned before the functions did")
		default:
		}
		close(hang)
		<-waited
		if got := ended.Load(); got != 3 {
			t.Errorf("%d functions had ended when Wait returned, want 3", got)
		}

		g.Go(func() { ended.Add(1) })
		g.Wait()
		if got := ended.Load(); got != 4 {
			t.Errorf("%d functions have ended, want 4: one began after Wait", got)
		}
	})
}
