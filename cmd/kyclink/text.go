package main

import (
	"encoding/json"
	"io"
	"math"
	"os"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/kyclink/kyclink/internal/legible"
	"github.com/kyclink/kyclink/internal/terminal"
)

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// newPage returns the page of a command's standard output.
func newPage(cmd *cobra.Command) *terminal.Page {
	w, ok := cmd.OutOrStdout().(*legible.Writer)
	if ok && w.Unescaped() == os.Stdout && term.IsTerminal(int(os.Stdout.Fd())) {
		return terminal.NewScreen(os.Stdout) // it escapes what it prints
	}
	return terminal.NewPage(cmd.OutOrStdout())
}

// hint prints on a terminal which command helps next.
func hint(text string) {
	if onTerminal() {
		_ = terminal.NewScreen(os.Stderr).Note(terminal.Dim, text) // it is only a hint
	}
}

// count formats a number with separators of thousands.
func count(n int) string { return humanize.Comma(int64(n)) }

// number returns a number with a noun in the singular or the plural.
func number(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return count(n) + " " + thing + "s"
}

// moment formats a time in RFC 3339; the zero time is empty.
func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// ago formats how long ago a time was.
func ago(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return humanize.CustomRelTime(t, time.Now(), "ago", "from now", []humanize.RelTimeMagnitude{
		{D: time.Second, Format: "now", DivBy: time.Second},
		{D: time.Minute, Format: "%d s %s", DivBy: time.Second},
		{D: time.Hour, Format: "%d min %s", DivBy: time.Minute},
		{D: 2 * humanize.Day, Format: "%d h %s", DivBy: time.Hour},
		{D: math.MaxInt64, Format: "%d days %s", DivBy: humanize.Day},
	})
}

// age returns how long ago a time was, and without a terminal the time.
func age(p *terminal.Page, t time.Time) string {
	if p.Terminal() {
		return ago(t)
	}
	return moment(t)
}

// dated returns a time, and on a terminal also how long ago it was.
func dated(p *terminal.Page, t time.Time) string {
	if p.Terminal() && !t.IsZero() {
		return moment(t) + " (" + ago(t) + ")"
	}
	return moment(t)
}

// reasonText returns a reason with its message, if it has one.
func reasonText(reason, message string) string {
	if reason == "" || message == "" {
		return reason
	}
	return reason + ": " + message
}
