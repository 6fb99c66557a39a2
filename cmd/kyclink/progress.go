package main

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/kyclink/kyclink/internal/bulk"
	"github.com/kyclink/kyclink/internal/request"
)

// linePause is how often a run that has no terminal says how far it is.
const linePause = 10 * time.Second

// progress shows how far a run is: a bar on a terminal, a line now and then
// elsewhere. Everything else is to be written through it.
type progress struct {
	*line
	mu   sync.Mutex
	said time.Time
	last bulk.Progress
	pace pace
	why  string // nothing is created now, in two or three words
}

func newProgress(out io.Writer, terminal bool) *progress {
	return &progress{line: newLine(out, terminal), said: time.Now()}
}

func (p *progress) report(now bulk.Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = now
	if now.Imported {
		p.pace.see(time.Now(), now.Settled())
	}
	p.draw(p.render)
	if p.width == nil && time.Since(p.said) >= linePause {
		p.said = time.Now()
		fmt.Fprintf(p.line, "kyclink: %s\n", p.text())
	}
}

// waits says why nothing is created now; "" where something is.
func (p *progress) waits(why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.why = why
}

func (p *progress) text() string {
	text := fmt.Sprintf("%d of %d done", p.last.Settled(), p.last.Total())
	if n := p.last.Counts[request.Failed]; n > 0 {
		text += fmt.Sprintf(", %d failed", n)
	}
	if n := p.last.Counts[request.Held]; n > 0 {
		text += fmt.Sprintf(", %d held", n)
	}
	if p.last.Rejected > 0 {
		text += fmt.Sprintf(", %d rejected", p.last.Rejected)
	}
	if p.last.Others > 0 {
		text += fmt.Sprintf(", %d asked for elsewhere", p.last.Others)
	}
	if !p.last.Imported {
		text += fmt.Sprintf("; %s accepted so far", number(p.last.Rows, "row"))
	}
	if speed := p.speed(); speed != "" {
		text += "; " + speed
	}
	return text
}

func (p *progress) render(width int) string {
	done, total := p.last.Settled(), p.last.Total()
	after := percent(done, total)
	if speed := p.speed(); speed != "" {
		after += "  " + speed
	}
	return withBar(fmt.Sprintf("%d/%d", done, total), after, done, total, width)
}

// speed is the pace and what is left at it, or why there is none.
func (p *progress) speed() string {
	open := p.last.Total() - p.last.Settled()
	rate := p.pace.perSecond(time.Now(), p.last.Settled())
	switch {
	case open == 0:
		return ""
	case p.why != "":
		return p.why
	case rate == 0:
		return ""
	}
	left := time.Duration(float64(open) / rate * float64(time.Second))
	return fmt.Sprintf("%s  %v left", perTime(rate), roughly(max(left, time.Second)).Round(time.Second))
}

// perTime writes a rate in the unit that suits it.
func perTime(perSecond float64) string {
	switch {
	case perSecond >= 1:
		return fmt.Sprintf("%.1f/s", perSecond)
	case perSecond*60 >= 1:
		return fmt.Sprintf("%.1f/min", perSecond*60)
	}
	return fmt.Sprintf("%.1f/h", perSecond*3600)
}

// stop leaves the bar as it is. It may be called again.
func (p *progress) stop() { p.end(true) }
