package main

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/kyclink/kyclink/internal/job"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/terminal"
)

func TestProgress_AgreesWithTheCounters(t *testing.T) {
	t.Parallel()
	now := job.Progress{Rows: 500, All: 500, AllAccepted: true, Rejected: 2, JoinedOpen: 1, JoinedEnded: 3, Counts: map[request.State]int{
		request.Created: 100, request.Failed: 5, request.Held: 1, request.Waiting: 348}}
	var lines capture
	p := newProgress(&lines, false)
	p.printed = time.Time{}
	p.report(now)
	p.stop()
	if got := lines.String(); got != "kyclink: 151 of 500 done, 5 failed, 1 held, 2 rejected, 3 joined\n" {
		t.Errorf("the line is %q", got)
	}

	var screen capture
	p = newProgress(&screen, true)
	p.report(now)
	p.stop() // as an interrupted run does
	p.report(job.Progress{Rows: 500, AllAccepted: true})
	fmt.Fprintln(p, "said when it is over")
	if got := screen.String(); !strings.Contains(got, "151/500 [===") || !strings.Contains(got, "] 30 %\nsaid when") || strings.Contains(got, "500/500") {
		t.Errorf("the bar of an interrupted run shows %q", got)
	}
	var whole capture
	p = newProgress(&whole, true)
	p.report(job.Progress{Rows: 4, All: 4, AllAccepted: true, Rejected: 1, Counts: map[request.State]int{request.Created: 3}})
	p.stop()
	if got := whole.String(); !strings.Contains(got, "4/4 [====") || !strings.HasSuffix(got, "] 100 %\n") {
		t.Errorf("the bar of a run that is done shows %q", got)
	}
}

// The progress bar leaves the last columns of the terminal free, because the line would
// wrap there or with the ^C of an interruption.
func TestProgress_FitsItsTerminal(t *testing.T) {
	t.Parallel()
	for _, why := range []string{"", "stuck: limit reached"} {
		for _, width := range []int{20, 40, 80, 200} {
			var screen capture
			synctest.Test(t, func(*testing.T) { // no time passes
				p := newProgress(&capture{}, false)
				p.last = job.Progress{Rows: 1_000_000, All: 1_500_000, Counts: map[request.State]int{request.Waiting: 400_000}}
				p.pace.Add(time.Now().Add(-10*time.Second), 599_000)
				p.waits(why, "ramping")
				p.Line = terminal.NewFixedLine(&screen, width)
				p.Draw(p.render)
			})
			text := strings.TrimPrefix(screen.String(), "\r\x1b[K")
			if n := utf8.RuneCountInString(text); n > width-3 || n < min(width-3, 60) {
				t.Errorf("on %d columns it draws %d: %q", width, n, text)
			}
			want := "  100.0/s  2h30m left  gate ramping"
			if why != "" {
				want = "  " + why + "  gate ramping"
			}
			if width >= 80 && !strings.HasSuffix(text, "] 40 %"+want) {
				t.Errorf("on %d columns it draws %q", width, text)
			}
		}
	}
}
