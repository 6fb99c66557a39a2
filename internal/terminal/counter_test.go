package terminal

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestCounter_ShowsTheCountUntilItIsStopped(t *testing.T) {
	t.Parallel()
	var screen strings.Builder
	shown := NewCounter(&screen, true, "retried")
	shown.Count(false)
	for range 6 {
		shown.Count(true)
	}
	shown.drawn = time.Time{} // as after a while
	shown.Count(true)
	if got := screen.String(); !strings.HasSuffix(got, "7 retried") {
		t.Errorf("it shows %q", got)
	}
	shown.Stop()
	fmt.Fprintln(shown, "kyclink: 7 retried; 1 skipped")
	done, skipped := shown.Counts()
	if got := screen.String(); !strings.HasSuffix(got, "kyclink: 7 retried; 1 skipped\n") || done != 7 || skipped != 1 {
		t.Errorf("it counted %d and %d, and shows %q", done, skipped, got)
	}
}

func TestCounter_DrawsNothingWithoutATerminal(t *testing.T) {
	t.Parallel()
	var lines strings.Builder
	silent := NewCounter(&lines, false, "retried")
	silent.Count(true)
	fmt.Fprintln(silent, "kyclink: 1 retried")
	silent.Stop()
	if got := lines.String(); got != "kyclink: 1 retried\n" {
		t.Errorf("it writes %q", got)
	}
}
