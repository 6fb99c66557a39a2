package api

import (
	"sync"

	"golang.org/x/time/rate"
)

// limits is how often each key may ask.
type limits struct {
	perSecond float64
	mu        sync.Mutex
	of        map[string]*rate.Limiter // by a key's id: of keys that there are
}

func newLimits(perSecond float64) *limits {
	return &limits{perSecond: perSecond, of: map[string]*rate.Limiter{}}
}

func (l *limits) allow(id string) bool {
	l.mu.Lock()
	limiter, ok := l.of[id]
	if !ok {
		limiter = rate.NewLimiter(rate.Limit(l.perSecond), int(2*l.perSecond))
		l.of[id] = limiter
	}
	l.mu.Unlock()
	return limiter.Allow()
}
