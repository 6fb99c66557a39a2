package api

import (
	"sync"

	"golang.org/x/time/rate"
)

// limits holds the rate limiter of each key.
type limits struct {
	perSecond float64
	mu        sync.Mutex
	byKey     map[string]*rate.Limiter // by the ID of a valid key
}

func newLimits(perSecond float64) *limits {
	return &limits{perSecond: perSecond, byKey: map[string]*rate.Limiter{}}
}

func (l *limits) allow(id string) bool {
	l.mu.Lock()
	limiter, ok := l.byKey[id]
	if !ok {
		limiter = rate.NewLimiter(rate.Limit(l.perSecond), int(2*l.perSecond))
		l.byKey[id] = limiter
	}
	l.mu.Unlock()
	return limiter.Allow()
}
