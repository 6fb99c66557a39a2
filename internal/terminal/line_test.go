package terminal

import (
	"fmt"
	"strings"
	"testing"
)

func TestLine_WritesAboveWhatItDraws(t *testing.T) {
	t.Parallel()
	var screen strings.Builder
	l := NewLine(&screen, true)
	draw := func(text string) { l.Draw(func(int) string { return text }) }
	fmt.Fprintln(l, "before")
	draw("1/2")
	draw("1/2")
	fmt.Fprintln(l, "a line")
	draw("2/2")
	l.End(true)
	l.End(true)
	draw("3/2")
	fmt.Fprintln(l, "after")
	want := "before\n" + clearLine + "1/2" + clearLine + "a line\n1/2" + clearLine + "2/2" + clearLine + "2/2\nafter\n"
	if got := screen.String(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
