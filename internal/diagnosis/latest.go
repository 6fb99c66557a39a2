package diagnosis

import (
	"context"
	"sync"
	"time"
)

const (
	latestAge     = time.Second     // how long a snapshot is used
	latestTimeout = 5 * time.Second // for reading one
)

// Latest reads snapshots at most once a second, however many ask for one. It is safe for
// concurrent use.
type Latest struct {
	reader *Reader
	mu     sync.Mutex
	last   Snapshot
	err    error
	at     time.Time // when last and err were read
}

// NewLatest returns a Latest that reads with reader.
func NewLatest(reader *Reader) *Latest { return &Latest{reader: reader} }

// Snapshot returns a snapshot that is at most a second old. Its read is shared, so that it
// does not end with the context of one who asked.
func (l *Latest) Snapshot(ctx context.Context) (Snapshot, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.at.IsZero() || time.Since(l.at) >= latestAge {
		reading, cancel := context.WithTimeout(context.WithoutCancel(ctx), latestTimeout)
		defer cancel()
		l.last, l.err = l.reader.Snapshot(reading)
		l.at = time.Now()
	}
	return l.last, l.err
}
