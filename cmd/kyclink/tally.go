package main

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// tally counts what was done, and shows it on a terminal until it is stopped.
// Everything else is to be written through it meanwhile. It is safe for concurrent use.
type tally struct {
	*line
	done           string // as in "12 retried"
	mu             sync.Mutex
	acted, changed int
	pace           pace
	drawn          time.Time
}

func newTally(out io.Writer, terminal bool, done string) *tally {
	return &tally{line: newLine(out, terminal), done: done}
}

// stop takes the count off the terminal: the last line says it. It may be called again.
func (t *tally) stop() { t.end(false) }

// drawPause is between two counts that are shown.
const drawPause = 100 * time.Millisecond

func (t *tally) count(ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !ok {
		t.changed++
		return
	}
	t.acted++
	now := time.Now()
	t.pace.see(now, t.acted)
	if now.Sub(t.drawn) < drawPause {
		return
	}
	t.drawn = now
	t.draw(func(int) string {
		text := fmt.Sprintf("%d %s", t.acted, t.done)
		if rate := t.pace.perSecond(now, t.acted); rate > 0 {
			text += "  " + perTime(rate)
		}
		return text
	})
}

// print writes a line of JSON that no other breaks into.
func (t *tally) print(w io.Writer, v any) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return printJSON(w, v)
}
