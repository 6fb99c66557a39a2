package worker

import (
	"sync"

	"github.com/kyclink/kyclink/internal/record"
)

// calls is what this process knows of its own calls: asynq may hand it a task
// again while the first handler is still at it.
type calls struct {
	mu   sync.Mutex
	open map[record.Ref]call
	wait sync.WaitGroup
}

type call int

const (
	active call = iota + 1
	lost        // a call was sent, and its answer was never recorded
)

func newCalls() *calls { return &calls{open: make(map[record.Ref]call)} }

// enter is refused while another handler has the turn. Otherwise it tells what
// a mark means that this process is found to have made earlier.
func (c *calls) enter(ref record.Ref) (record.Earlier, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	was := c.open[ref]
	if was == active {
		return "", false
	}
	c.open[ref] = active
	c.wait.Add(1)
	if was == lost {
		return record.Lost, true
	}
	return record.Unsent, true
}

// handled gives the turns that have a handler.
func (c *calls) handled() []record.Ref {
	c.mu.Lock()
	defer c.mu.Unlock()
	refs := make([]record.Ref, 0, len(c.open))
	for ref, is := range c.open {
		if is == active {
			refs = append(refs, ref)
		}
	}
	return refs
}

// leave ends what enter began. A call whose answer was not settled is
// remembered as lost.
func (c *calls) leave(ref record.Ref, settled bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if settled {
		delete(c.open, ref)
	} else {
		c.open[ref] = lost
	}
	c.wait.Done()
}
