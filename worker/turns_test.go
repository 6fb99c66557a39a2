package worker

import (
	"testing"

	"github.com/kyclink/kyclink/internal/request"
)

func TestTurns_HaveOneHandlerEach(t *testing.T) {
	c := newTurns()
	ref, other := request.Ref{ApplicationID: "A-1"}, request.Ref{ApplicationID: "A-1", Turn: 1}
	enter := func(ref request.Ref, want bool) {
		t.Helper()
		if got := c.take(ref); got != want {
			t.Errorf("%v is taken: %v, want %v", ref, got, want)
		}
	}
	enter(ref, true)
	enter(ref, false)
	enter(other, true)
	c.release(ref)
	enter(ref, true)
	if n := len(c.handled()); n != 2 {
		t.Errorf("%d turns have a handler, want 2", n)
	}
	c.release(ref)
	c.release(other)
	if len(c.open) != 0 {
		t.Errorf("%d turns are remembered when none has a handler", len(c.open))
	}
	c.running.Wait()
}

// A nonce is reused until its query has a reply, also by the next handler: the call may
// have been granted.
func TestTurns_KeepTheNonceUntilAReply(t *testing.T) {
	c := newTurns()
	ref := request.Ref{ApplicationID: "A-1"}
	c.take(ref)
	first := c.nonce(ref)
	if again := c.nonce(ref); first == "" || again != first {
		t.Errorf("without a reply it is %q, then %q", first, again)
	}
	c.release(ref)
	if n := len(c.handled()); n != 0 {
		t.Errorf("%d turns have a handler, want 0", n)
	}
	c.take(ref)
	if next := c.nonce(ref); next != first {
		t.Errorf("the next handler has %q, want %q", next, first)
	}
	c.answered(ref)
	if next := c.nonce(ref); next == first {
		t.Error("a nonce was used again after its reply")
	}
	c.answered(ref)
	c.release(ref)
	if len(c.open) != 0 {
		t.Errorf("%d turns are remembered", len(c.open))
	}
}
