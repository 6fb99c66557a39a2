package worker

import (
	"testing"

	"github.com/kyclink/kyclink/internal/record"
)

func TestCalls(t *testing.T) {
	c := newCalls()
	ref, other := record.Ref{ApplicationID: "A-1"}, record.Ref{ApplicationID: "A-1", Turn: 1}
	enter := func(ref record.Ref, want record.Earlier, entered bool) {
		t.Helper()
		if got, ok := c.enter(ref); got != want || ok != entered {
			t.Errorf("enter: %q, %v; want %q, %v", got, ok, want, entered)
		}
	}
	enter(ref, record.Unsent, true)
	enter(ref, "", false)
	enter(other, record.Unsent, true)
	c.leave(ref, false)
	enter(ref, record.Lost, true)
	enter(ref, "", false)
	c.leave(ref, true)
	enter(ref, record.Unsent, true)
	c.leave(ref, true)
	c.leave(other, true)
	if len(c.open) != 0 {
		t.Errorf("%d turns are remembered when all are settled", len(c.open))
	}
	c.wait.Wait()
}
