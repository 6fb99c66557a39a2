package main

import (
	"fmt"
	"io"
	"time"

	"github.com/kyclink/kyclink/internal/bulk"
)

// fileProgress shows on a terminal how much of a file was imported. Everything
// else is to be written through it.
type fileProgress struct {
	*line
	in   *bulk.Input
	pace pace // in KiB
}

func newFileProgress(out io.Writer, terminal bool, in *bulk.Input) *fileProgress {
	return &fileProgress{line: newLine(out, terminal), in: in}
}

// kib is the unit of the shares of a file.
const kib = 1 << 10

func (p *fileProgress) report(counts bulk.Counts) {
	read, size := p.in.Size()
	done, total := int(read/kib), int(size/kib)
	p.pace.see(time.Now(), done)
	rate := p.pace.perSecond(time.Now(), done)
	p.draw(func(width int) string {
		rows := number(counts.Rows, "row")
		if total == 0 { // of a pipe nobody knows the size
			return rows
		}
		after := percent(done, total)
		if rate > 0 && done < total {
			left := time.Duration(float64(total-done) / rate * float64(time.Second))
			after += fmt.Sprintf("  %v left", roughly(max(left, time.Second)).Round(time.Second))
		}
		return withBar(rows, after, done, total, width)
	})
}

// stop leaves the bar as it is. It may be called again.
func (p *fileProgress) stop() { p.end(true) }
