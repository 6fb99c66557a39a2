package tasks

import (
	"sync"
	"time"
)

// MaxReplayCache is the number of messages that a [MemoryReplayCache] remembers.
const MaxReplayCache = 100_000

// MemoryReplayCache is a [ReplayCache] in memory. It remembers [MaxReplayCache]
// messages: if more arrive within five minutes, it forgets the oldest. The zero value is
// ready to use. It is safe for concurrent use.
type MemoryReplayCache struct {
	mu    sync.Mutex
	until map[string]time.Time
	order []string // keys in the order of arrival
}

// Add implements [ReplayCache].
func (m *MemoryReplayCache) Add(key string, until time.Time) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, known := m.until[key]; known {
		return false, nil
	}
	if m.until == nil {
		m.until = make(map[string]time.Time)
	}
	now := time.Now()
	for len(m.order) > 0 && (len(m.order) >= MaxReplayCache || m.until[m.order[0]].Before(now)) {
		delete(m.until, m.order[0])
		m.order = m.order[1:]
	}
	m.until[key] = until
	m.order = append(m.order, key)
	return true, nil
}
