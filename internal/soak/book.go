package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/kyclink/kyclink/tasks"
)

// book records which requests have no link yet, and which callbacks have not arrived. Its
// size depends on these only. It is safe for concurrent use.
type book struct {
	mu       sync.Mutex
	waiting  map[string]bool // by application id: requested, and no event yet
	expected map[string]bool // by application id: its callback is to be received
	finished []string        // the latest ids of neither, which may be forgotten
	counts   counts
	problems []string
}

// counts are the numbers of a whole run.
type counts struct{ requests, links, callbacks, forgotten int }

const (
	mostFinished = 200
	mostProblems = 50
)

func newBook() *book { return &book{waiting: map[string]bool{}, expected: map[string]bool{}} }

// request records a request that is about to be made.
func (b *book) request(id string, callback bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.counts.requests++
	b.waiting[id] = true
	if callback {
		b.expected[id] = true
	}
}

// event records the event of a request. Events may be repeated.
func (b *book) event(e tasks.Event) {
	id := e.Data.ApplicationID
	if e.Type != tasks.EventCreated {
		b.problem("%s got %s (%s)", id, e.Type, e.Data.Reason)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiting[id] {
		b.counts.links++
		delete(b.waiting, id)
		b.finish(id)
	}
}

// received records a callback. Callbacks may be repeated.
func (b *book) received(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.expected[id] {
		b.counts.callbacks++
		delete(b.expected, id)
		b.finish(id)
	}
}

// finish keeps an id of which nothing is awaited any more. The caller has locked the book.
func (b *book) finish(id string) {
	if b.waiting[id] || b.expected[id] {
		return
	}
	b.finished = append(b.finished, id)
	if len(b.finished) > mostFinished {
		b.finished = slices.Delete(b.finished, 0, len(b.finished)-mostFinished)
	}
}

// takeFinished removes and returns up to n ids that may be forgotten.
func (b *book) takeFinished(n int) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	n = min(n, len(b.finished))
	taken := slices.Clone(b.finished[len(b.finished)-n:])
	b.finished = b.finished[:len(b.finished)-n]
	b.counts.forgotten += n
	return taken
}

// awaits reports whether something is awaited of an id with a prefix.
func (b *book) awaits(prefix string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, ids := range []map[string]bool{b.waiting, b.expected} {
		for id := range ids {
			if strings.HasPrefix(id, prefix) {
				return true
			}
		}
	}
	return false
}

func (b *book) problem(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.problems) < mostProblems {
		b.problems = append(b.problems, fmt.Sprintf(format, args...))
	}
}

// lost describes what is still awaited.
func (b *book) lost() (found []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for what, ids := range map[string]map[string]bool{"requests have no link": b.waiting, "callbacks did not arrive": b.expected} {
		if n := len(ids); n > 0 {
			some := slices.Sorted(maps.Keys(ids))
			found = append(found, fmt.Sprintf("%d %s, such as %s", n, what, strings.Join(some[:min(n, 5)], ", ")))
		}
	}
	slices.Sort(found)
	return found
}
