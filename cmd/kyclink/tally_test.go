package main

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// A terminal shows how many were acted on so far, and nothing of that when it is over.
func TestATallyIsShownOnATerminal(t *testing.T) {
	t.Parallel()
	var screen output
	shown := newTally(&screen, true, "retried")
	shown.count(false)
	for range 6 {
		shown.count(true)
	}
	shown.drawn = time.Time{} // as it is after a while
	shown.count(true)
	if got := screen.String(); !strings.HasSuffix(got, "7 retried") {
		t.Errorf("it shows %q", got)
	}
	shown.stop()
	fmt.Fprintln(shown, "kyclink: 7 retried; 1 skipped")
	if got := screen.String(); !strings.HasSuffix(got, "kyclink: 7 retried; 1 skipped\n") || shown.acted != 7 || shown.changed != 1 {
		t.Errorf("it counted %d and %d, and shows %q", shown.acted, shown.changed, got)
	}

	var lines output
	silent := newTally(&lines, false, "retried")
	silent.count(true)
	fmt.Fprintln(silent, "kyclink: 1 retried")
	silent.stop()
	if got := lines.String(); got != "kyclink: 1 retried\n" {
		t.Errorf("without a terminal it writes %q", got)
	}
}
