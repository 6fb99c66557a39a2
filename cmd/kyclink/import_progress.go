package main

import (
	"io"
	"time"

	"github.com/kyclink/kyclink/internal/bulk"
	"github.com/kyclink/kyclink/internal/forecast"
	"github.com/kyclink/kyclink/internal/input"
	"github.com/kyclink/kyclink/internal/terminal"
)

// fileProgress shows on a terminal how much of a file has been imported. All other output
// must be written through it.
type fileProgress struct {
	*terminal.Line
	in   *input.File
	pace forecast.Throughput // in KiB
}

func newFileProgress(out io.Writer, tty bool, in *input.File) *fileProgress {
	return &fileProgress{Line: terminal.NewLine(out, tty), in: in}
}

// kib is the unit of progress.
const kib = 1 << 10

func (p *fileProgress) report(counts bulk.Counts) {
	read, size := p.in.Size()
	done, total := int(read/kib), int(size/kib)
	p.pace.Add(time.Now(), done)
	rate := p.pace.Rate(time.Now(), done)
	p.Draw(func(width int) string {
		rows := number(counts.Rows, "row")
		if total == 0 { // the size of a pipe is unknown
			return rows
		}
		after := terminal.Percent(done, total)
		if rate > 0 && done < total {
			after += "  " + rate.Left(total-done)
		}
		return terminal.WithBar(rows, after, done, total, width)
	})
}

// stop ends the bar, and leaves it on the terminal. It may be called repeatedly.
func (p *fileProgress) stop() { p.End(true) }
