package worker

import (
	"sync"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/request"
)

// calls is the turns that this process handles: asynq may hand it a task again
// while the first handler is still at it. It keeps the nonce of an admission request
// that has had no reply, also for the next handler: the request may have been granted.
type calls struct {
	mu   sync.Mutex
	open map[request.Ref]*turn
	wait sync.WaitGroup
}

type turn struct {
	active bool   // it has a handler
	nonce  string // of the request that is not answered
}

func newCalls() *calls { return &calls{open: make(map[request.Ref]*turn)} }

// enter is refused while another handler has the turn.
func (c *calls) enter(ref request.Ref) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.open[ref]
	if t == nil {
		t = &turn{}
		c.open[ref] = t
	}
	if t.active {
		return false
	}
	t.active = true
	c.wait.Add(1)
	return true
}

// nonce gives the handler of a turn the nonce of its next admission request, which
// stays the same until that is answered.
func (c *calls) nonce(ref request.Ref) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.open[ref]
	if t.nonce == "" {
		t.nonce = attempt.NewNonce()
	}
	return t.nonce
}

// answered says that the reply to the admission request has come.
func (c *calls) answered(ref request.Ref) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open[ref].nonce = ""
}

// handled gives the turns that have a handler.
func (c *calls) handled() []request.Ref {
	c.mu.Lock()
	defer c.mu.Unlock()
	refs := make([]request.Ref, 0, len(c.open))
	for ref, t := range c.open {
		if t.active {
			refs = append(refs, ref)
		}
	}
	return refs
}

// leave ends what enter began.
func (c *calls) leave(ref request.Ref) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.open[ref]; t.nonce == "" {
		delete(c.open, ref)
	} else {
		t.active = false
	}
	c.wait.Done()
}
