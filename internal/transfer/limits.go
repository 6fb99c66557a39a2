// Package transfer limits uploads and downloads: how many of them run at a time, and how
// long their connections may stall.
package transfer

import (
	"fmt"
	"sync"
	"time"

	"github.com/kyclink/kyclink/internal/apikey"
)

// Timeout limits the total time of a transfer.
const Timeout = time.Hour

// The number of transfers of one kind that a process handles at a time.
const (
	perKey = 4
	total  = 32
)

// Limits counts the transfers of one kind that are in progress. It is safe for concurrent
// use.
type Limits struct {
	// PerKey and Total are the limits, for one API key and for all together. They must not
	// be changed once a transfer has begun.
	PerKey, Total int

	what  string
	mu    sync.Mutex
	count int
	byKey map[string]int // by key ID; only keys that have any
}

// NewLimits returns the usual limits for what, such as "uploads".
func NewLimits(what string) *Limits {
	return &Limits{PerKey: perKey, Total: total, what: what, byKey: map[string]int{}}
}

// BusyError reports that a limit is reached.
type BusyError struct {
	What  string
	Limit int
	Key   string // the name of the key that has reached its limit; empty if all keys together have
}

func (e *BusyError) Error() string {
	if e.Key != "" {
		return fmt.Sprintf("key %q may have %d %s at a time; wait until one has finished", e.Key, e.Limit, e.What)
	}
	return fmt.Sprintf("this service already handles %d %s; try again later", e.Limit, e.What)
}

// Begin starts a transfer, or returns a [*BusyError]. Call [Limits.End] at its end.
func (l *Limits) Begin(k apikey.Key) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.byKey[k.ID] >= l.PerKey:
		return &BusyError{What: l.what, Limit: l.PerKey, Key: k.Name}
	case l.count >= l.Total:
		return &BusyError{What: l.what, Limit: l.Total}
	}
	l.count++
	l.byKey[k.ID]++
	return nil
}

// End ends a transfer that has begun.
func (l *Limits) End(k apikey.Key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count--
	if l.byKey[k.ID]--; l.byKey[k.ID] == 0 {
		delete(l.byKey, k.ID)
	}
}

// InProgress returns the number of transfers in progress.
func (l *Limits) InProgress() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count
}

// Names holds the names of the batches that are being uploaded to this process. Two uploads
// to one batch must not run at the same time. The zero value is ready to use, and safe for
// concurrent use.
type Names struct{ names sync.Map }

// Begin registers an upload. It returns false if there is already one to the batch.
func (n *Names) Begin(batch string) bool {
	_, taken := n.names.LoadOrStore(batch, true)
	return !taken
}

// End ends an upload that has begun.
func (n *Names) End(batch string) { n.names.Delete(batch) }
