package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/kyclink/kyclink/internal/forecast"
	"github.com/kyclink/kyclink/internal/job"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/terminal"
)

// linePause is the time between two lines of progress without a terminal.
const linePause = 10 * time.Second

// progress shows the progress of a run: a bar on a terminal, otherwise a line every
// linePause. All other output must be written through it.
type progress struct {
	*terminal.Line
	mu      sync.Mutex
	printed time.Time // the last line
	last    job.Progress
	pace    forecast.Throughput
	why     string // why no link is created now, in a few words
	gate    string // the state of the gate; "" if it is not known yet
}

func newProgress(out io.Writer, tty bool) *progress {
	return &progress{Line: terminal.NewLine(out, tty), printed: time.Now()}
}

func (p *progress) report(now job.Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = now
	if now.AllAccepted {
		p.pace.Add(time.Now(), now.Finished())
	}
	p.Draw(p.render)
	if !p.Draws() && time.Since(p.printed) >= linePause {
		p.printed = time.Now()
		fmt.Fprintf(p.Line, "kyclink: %s\n", p.text())
	}
}

// waits sets why no link is created now, or "" if links are created; and the state of the
// gate.
func (p *progress) waits(why, gate string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.why, p.gate = why, gate
}

func (p *progress) text() string {
	text := fmt.Sprintf("%s of %s done", count(p.last.Finished()), count(p.last.Total()))
	if n := p.last.Counts[request.Failed]; n > 0 {
		text += fmt.Sprintf(", %s failed", count(n))
	}
	if n := p.last.Counts[request.Held]; n > 0 {
		text += fmt.Sprintf(", %s held", count(n))
	}
	if p.last.Rejected > 0 {
		text += fmt.Sprintf(", %s rejected", count(p.last.Rejected))
	}
	if p.last.JoinedEnded > 0 {
		text += fmt.Sprintf(", %s joined", count(p.last.JoinedEnded))
	}
	if !p.last.AllAccepted {
		text += fmt.Sprintf("; %s accepted so far", number(p.last.Rows, "row"))
	}
	if speed := p.speed(); speed != "" {
		text += "; " + speed
	}
	return text
}

func (p *progress) render(width int) string {
	done, total := p.last.Finished(), p.last.Total()
	after := terminal.Percent(done, total)
	if speed := p.speed(); speed != "" {
		after += "  " + speed
	}
	return terminal.WithBar(count(done)+"/"+count(total), after, done, total, width)
}

// speed returns the rate and the time left, or why no link is created, and the state of
// the gate.
func (p *progress) speed() string {
	open := p.last.Total() - p.last.Finished()
	if open == 0 {
		return ""
	}
	var parts []string
	rate := p.pace.Rate(time.Now(), p.last.Finished())
	switch {
	case p.why != "":
		parts = append(parts, p.why)
	case rate != 0:
		parts = append(parts, rate.String(), rate.Left(open))
	}
	if p.gate != "" {
		parts = append(parts, "gate "+p.gate)
	}
	return strings.Join(parts, "  ")
}

// stop ends the bar, and leaves it on the terminal. It may be called repeatedly.
func (p *progress) stop() { p.End(true) }
