package worker

import (
	"testing"

	"github.com/kyclink/kyclink/internal/request"
)

func TestOneHandlerOfATurn(t *testing.T) {
	c := newCalls()
	ref, other := request.Ref{ApplicationID: "A-1"}, request.Ref{ApplicationID: "A-1", Turn: 1}
	enter := func(ref request.Ref, want bool) {
		t.Helper()
		if got := c.enter(ref); got != want {
			t.Errorf("%v is entered: %v, want %v", ref, got, want)
		}
	}
	enter(ref, true)
	enter(ref, false)
	enter(other, true)
	c.leave(ref)
	enter(ref, true)
	if n := len(c.handled()); n != 2 {
		t.Errorf("%d turns have a handler, want 2", n)
	}
	c.leave(ref)
	c.leave(other)
	if len(c.open) != 0 {
		t.Errorf("%d turns are remembered when none has a handler", len(c.open))
	}
	c.wait.Wait()
}

// A nonce is used again until its request has a reply, also by the next handler: the
// request may have been granted.
func TestANonceIsOfOneAdmissionRequest(t *testing.T) {
	c := newCalls()
	ref := request.Ref{ApplicationID: "A-1"}
	c.enter(ref)
	first := c.nonce(ref)
	if again := c.nonce(ref); first == "" || again != first {
		t.Errorf("without a reply it is %q, then %q", first, again)
	}
	c.leave(ref)
	if n := len(c.handled()); n != 0 {
		t.Errorf("%d turns have a handler, want 0", n)
	}
	c.enter(ref)
	if next := c.nonce(ref); next != first {
		t.Errorf("the next handler has %q, want %q", next, first)
	}
	c.answered(ref)
	if next := c.nonce(ref); next == first {
		t.Error("a nonce was used again after its reply")
	}
	c.answered(ref)
	c.leave(ref)
	if len(c.open) != 0 {
		t.Errorf("%d turns are remembered", len(c.open))
	}
}
