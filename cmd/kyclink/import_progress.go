package main

import (
	"io"
	"sync/atomic"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/kyclink/kyclink/internal/bulk"
)

// fileProgress shows on a terminal how much of a file was imported. Everything
// else is to be written through it: above the bar.
type fileProgress struct {
	progress
	in   *bulk.Input
	rows atomic.Int64
}

func newFileProgress(out io.Writer, terminal bool, in *bulk.Input) *fileProgress {
	p := &fileProgress{progress: progress{out: out}, in: in}
	if !terminal {
		return p
	}
	_, size := in.Size()
	p.bars = mpb.New(mpb.WithOutput(out), mpb.WithWidth(40), mpb.WithAutoRefresh())
	p.bar = p.bars.AddBar(size,
		mpb.PrependDecorators(decor.Any(func(decor.Statistics) string { return number(int(p.rows.Load()), "row") })),
		mpb.AppendDecorators(decor.Percentage(), decor.AverageSpeed(decor.SizeB1024(0), "  % .1f"), decor.Name("  "),
			decor.AverageETA(decor.ET_STYLE_GO)))
	return p
}

func (p *fileProgress) report(counts bulk.Counts) {
	p.rows.Store(int64(counts.Rows))
	if p.bar != nil {
		read, _ := p.in.Size()
		p.bar.SetCurrent(read)
	}
}
