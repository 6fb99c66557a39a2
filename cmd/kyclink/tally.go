package main

import (
	"io"
	"sync"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// tally counts what was done, and shows it on a terminal until it is stopped.
// Everything else is to be written through it meanwhile. It is safe for concurrent use.
type tally struct {
	progress
	mu             sync.Mutex
	acted, changed int
}

// newTally counts what was done, as in "12 retried".
func newTally(out io.Writer, terminal bool, done string) *tally {
	t := &tally{progress: progress{out: out}}
	if terminal {
		t.bars = mpb.New(mpb.WithOutput(out), mpb.WithAutoRefresh())
		t.bar = t.bars.New(0, mpb.NopStyle(),
			mpb.PrependDecorators(decor.CurrentNoUnit("%d "+done), decor.AverageSpeed(0, "  %.1f/s")))
	}
	return t
}

// stop takes the count off the terminal: the last line says it. It may be called again.
func (t *tally) stop() {
	t.over.Do(func() {
		if t.bars != nil {
			t.bar.Abort(true)
			t.bars.Wait()
		}
	})
}

func (t *tally) count(ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !ok {
		t.changed++
		return
	}
	if t.acted++; t.bar != nil {
		t.bar.Increment()
	}
}

// print writes a line of JSON that no other breaks into.
func (t *tally) print(w io.Writer, v any) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return printJSON(w, v)
}
