package tasks

import (
	"context"
	"sync"
)

// pending is the bounded set of entries that this process handles.
type pending struct {
	most  int
	mu    sync.Mutex
	ids   map[string]struct{}
	freed chan struct{}
}

func newPending(most int) *pending {
	return &pending{most: most, ids: map[string]struct{}{}, freed: make(chan struct{}, 1)}
}

// capacity waits until at least some entries fit, and returns how many one command may
// read.
func (p *pending) capacity(ctx context.Context, some int) (int, error) {
	for {
		p.mu.Lock()
		room := p.most - len(p.ids)
		p.mu.Unlock()
		if room >= some {
			return min(room, perCommand), nil
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-p.freed:
		}
	}
}

// add adds an entry. It returns false if the entry was pending already.
func (p *pending) add(id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, there := p.ids[id]
	p.ids[id] = struct{}{}
	return !there
}

func (p *pending) drop(ids []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range ids {
		delete(p.ids, id)
	}
	select {
	case p.freed <- struct{}{}:
	default:
	}
}

func (p *pending) list() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	ids := make([]string, 0, len(p.ids))
	for id := range p.ids {
		ids = append(ids, id)
	}
	return ids
}
