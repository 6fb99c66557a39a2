package main

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/kyclink/kyclink/internal/bulk"
	"github.com/kyclink/kyclink/internal/record"
)

// linePause is how often a run that has no terminal says how far it is.
const linePause = 10 * time.Second

// progress shows how far a run is: a bar on a terminal, a line now and then
// elsewhere. Everything else is to be written through it: above the bar.
type progress struct {
	out  io.Writer
	bars *mpb.Progress // nil without a terminal
	bar  *mpb.Bar
	said time.Time
	over sync.Once
	last bulk.Progress
}

func newProgress(out io.Writer, terminal bool) *progress {
	p := &progress{out: out, said: time.Now()}
	if terminal {
		p.bars = mpb.New(mpb.WithOutput(out), mpb.WithWidth(40), mpb.WithAutoRefresh())
	}
	return p
}

func (p *progress) Write(text []byte) (int, error) {
	if p.bars != nil {
		if n, err := p.bars.Write(text); err == nil {
			return n, nil
		}
	}
	return p.out.Write(text) // there is no bar, or not any more
}

func (p *progress) report(now bulk.Progress) {
	p.last = now
	switch {
	case p.bars != nil:
		p.draw(now)
	case time.Since(p.said) >= linePause:
		p.said = time.Now()
		fmt.Fprintf(p.out, "kyclink: %s\n", p.text())
	}
}

func (p *progress) text() string {
	text := fmt.Sprintf("%d of %d done, %d created", p.last.Settled(), p.last.Total(), p.last.Counts[record.Created])
	if n := p.last.Counts[record.Failed]; n > 0 {
		text += fmt.Sprintf(", %d failed", n)
	}
	if p.last.Rejected > 0 {
		text += fmt.Sprintf(", %d rejected", p.last.Rejected)
	}
	if p.last.Others > 0 {
		text += fmt.Sprintf(", %d asked for elsewhere", p.last.Others)
	}
	if !p.last.Imported {
		text += fmt.Sprintf("; %s read so far", number(p.last.Rows, "row"))
	}
	return text
}

func (p *progress) draw(now bulk.Progress) {
	if p.bar == nil {
		p.bar = p.bars.AddBar(0,
			mpb.PrependDecorators(decor.CountersNoUnit("%d/%d")),
			mpb.AppendDecorators(decor.Percentage(), decor.AverageSpeed(0, "  %.1f/s"), decor.Name("  "),
				decor.AverageETA(decor.ET_STYLE_GO)))
	}
	p.bar.SetTotal(int64(now.Total()), false)
	p.bar.SetCurrent(int64(now.Settled()))
}

// stop leaves the bar as it is. It may be called again.
func (p *progress) stop() {
	p.over.Do(func() {
		if p.bars == nil {
			return
		}
		if p.bar != nil {
			p.bar.Abort(false) // what is not done is not to look done
		}
		p.bars.Wait()
	})
}
