package worker

import (
	"sync"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/request"
)

// turns holds the turns that this process handles, because asynq may run a task again while
// its first handler still runs. It keeps the nonce of a query without a reply for the next
// handler, because the call may have been granted.
type turns struct {
	mu      sync.Mutex
	open    map[request.Ref]*turn
	running sync.WaitGroup
}

type turn struct {
	handled bool   // it has a handler
	nonce   string // of the query without a reply
}

func newTurns() *turns { return &turns{open: make(map[request.Ref]*turn)} }

// take returns false while another handler has the turn.
func (ts *turns) take(ref request.Ref) bool {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t := ts.open[ref]
	if t == nil {
		t = &turn{}
		ts.open[ref] = t
	}
	if t.handled {
		return false
	}
	t.handled = true
	ts.running.Add(1)
	return true
}

// nonce returns the nonce of the turn's next query. It stays the same until a reply has
// arrived.
func (ts *turns) nonce(ref request.Ref) string {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t := ts.open[ref]
	if t.nonce == "" {
		t.nonce = attempt.NewNonce()
	}
	return t.nonce
}

// answered records that the reply to the turn's query has arrived.
func (ts *turns) answered(ref request.Ref) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ts.open[ref].nonce = ""
}

// handled returns the turns that have a handler.
func (ts *turns) handled() []request.Ref {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	refs := make([]request.Ref, 0, len(ts.open))
	for ref, t := range ts.open {
		if t.handled {
			refs = append(refs, ref)
		}
	}
	return refs
}

// release ends the handling of a turn that take returned true for.
func (ts *turns) release(ref request.Ref) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if t := ts.open[ref]; t.nonce == "" {
		delete(ts.open, ref)
	} else {
		t.handled = false
	}
	ts.running.Done()
}
