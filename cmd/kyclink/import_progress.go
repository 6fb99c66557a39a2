package main

import (
	"io"
	"time"

	"github.com/kyclink/kyclink/internal/bulk"
	"github.com/kyclink/kyclink/internal/forecast"
	"github.com/kyclink/kyclink/internal/input"
	"github.com/kyclink/kyclink/internal/terminal"
)

// fileProgress shows on a terminal how much of a file is imported. All other output
// must be written through it.
type fileProgress struct {
	*terminal.Line
	in   *input.File
	pace forecast.Throughput // in KiB
}

func newFileProgress(out io.Writer, tty bool, in *input.File) *fileProgress {
	return &fileProgress{Line: terminal.NewLine(out, tty), in: in}
}

// kib is the unit of the shares of a file.
const kib = 1 << 10

func (p *fileProgress) report(counts bulk.Counts) {
	read, size := p.in.Size()
	done, total := int(read/kib), int(size/kib)
	p.pace.Add(time.Now(), done)
	rate := p.pace.Rate(time.Now(), done)
	p.Draw(func(width int) string {
		rows := number(counts.Rows, "row")
		if total == 0 { // of a pipe nobody knows the size
			return rows
		}
		after := terminal.Percent(done, total)
		if rate > 0 && done < total {
			after += "  " + rate.Left(total-done)
		}
		return terminal.WithBar(rows, after, done, total, width)
	})
}

// stop leaves the bar as it is. It may be called again.
func (p *fileProgress) stop() { p.End(true) }
