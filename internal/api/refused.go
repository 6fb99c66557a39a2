package api

import (
	"errors"
	"fmt"
	"hash/maphash"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"
)

// KeyProblem is why a request has no valid API key. Its text is a metric's label.
type KeyProblem string

// The problems. The answer to a request does not tell the last three apart.
const (
	KeyMissing   KeyProblem = "missing"   // there is none
	KeyMalformed KeyProblem = "malformed" // it does not look like one
	KeyUnknown   KeyProblem = "unknown"   // no key has this id, or it has another secret
	KeyRevoked   KeyProblem = "revoked"
)

// KeyProblems lists all problems.
func KeyProblems() []KeyProblem {
	return []KeyProblem{KeyMissing, KeyMalformed, KeyUnknown, KeyRevoked}
}

// RefusedKey is an [ErrUnknownKey] that says more, for the log.
type RefusedKey struct {
	Problem KeyProblem
	ID      string // as it was presented; empty where it has no id's form
}

func (e *RefusedKey) Error() string { return ErrUnknownKey.Error() }

// Unwrap makes it an [ErrUnknownKey].
func (e *RefusedKey) Unwrap() error { return ErrUnknownKey }

// An address may fail to show a valid key refusedBurst times at once and
// refusedPerSecond on average. Beyond that its 401s come later, and when they would
// come later than refusedAtMost it gets 429s.
const (
	refusedPerSecond = 1
	refusedBurst     = 10
	refusedAtMost    = 5 * time.Second
	// refusedAddresses is how many addresses are told apart: others share.
	refusedAddresses = 1 << 12
	// refusedWaiting is how many 401s of one process wait at a time.
	refusedWaiting = 256
)

// refused slows down addresses that show no valid key. Its memory does not grow. It
// does not concern requests with a valid key from the same address, which may be a
// proxy's.
type refused struct {
	seed    maphash.Seed
	limits  [refusedAddresses]*rate.Limiter
	waiting chan struct{}
	lines   *rate.Limiter // of the log

	mu     sync.Mutex
	unsaid int // refusals that were not logged
}

func newRefused(perSecond rate.Limit) *refused {
	r := &refused{seed: maphash.MakeSeed(), waiting: make(chan struct{}, refusedWaiting), lines: rate.NewLimiter(1, refusedBurst)}
	for i := range r.limits {
		r.limits[i] = rate.NewLimiter(perSecond, refusedBurst)
	}
	return r
}

// of gives the limiter of an address. One network of IPv6 counts as one address.
func (r *refused) of(addr netip.Addr) *rate.Limiter {
	addr = addr.Unmap().WithZone("")
	if addr.Is6() {
		if network, err := addr.Prefix(64); err == nil {
			addr = network.Addr()
		}
	}
	return r.limits[maphash.Comparable(r.seed, addr)%refusedAddresses]
}

// refuse answers a request that showed no valid key, which its address may have to
// wait for.
func (a *API) refuse(c *call, why *RefusedKey, detail string) error {
	if a.Meter != nil {
		a.Meter.Refused(string(why.Problem))
	}
	peer, _ := netip.ParseAddrPort(c.r.RemoteAddr) // a zero address where it is none
	a.logRefused(c, why, peer.Addr())
	turn := a.refused.of(peer.Addr()).Reserve()
	delay := turn.Delay()
	if delay == 0 {
		return unauthorized(detail)
	}
	p := newProblem(http.StatusTooManyRequests, rateLimitedReason, "Too many requests",
		"too many requests without a valid API key come from this address; send one that is valid, or come back later")
	p.retryAfter = refusedAtMost
	if delay > refusedAtMost {
		turn.Cancel()
		return p
	}
	select {
	case a.refused.waiting <- struct{}{}:
	default:
		turn.Cancel()
		return p
	}
	defer func() { <-a.refused.waiting }()
	later := time.NewTimer(delay)
	defer later.Stop()
	select {
	case <-later.C:
	case <-a.draining:
	case <-c.r.Context().Done():
	}
	return unauthorized(detail)
}

// logRefused writes a line now and then: whoever has no key can make requests without
// end.
func (a *API) logRefused(c *call, why *RefusedKey, from netip.Addr) {
	r := a.refused
	r.mu.Lock()
	defer r.mu.Unlock()
	c.unlogged = true
	if !r.lines.Allow() {
		r.unsaid++
		return
	}
	a.Log.Warn("request without a valid API key", zap.String("reason", string(why.Problem)), zap.Stringer("address", from),
		zap.String("key_id", why.ID), zap.String("method", method(c.r.Method)), zap.String("request_id", c.id), zap.Int("not_logged_before", r.unsaid))
	r.unsaid = 0
}

// authenticate finds the key of a request.
func (a *API) authenticate(c *call) error {
	scheme, presented, _ := strings.Cut(c.r.Header.Get("Authorization"), " ")
	if presented = strings.TrimSpace(presented); !strings.EqualFold(scheme, "Bearer") || presented == "" {
		return a.refuse(c, &RefusedKey{Problem: KeyMissing}, "send an API key: Authorization: Bearer KEY; kyclink keys create makes one")
	}
	key, err := a.verify(c, presented)
	switch {
	case errors.Is(err, ErrUnknownKey):
		why, ok := errors.AsType[*RefusedKey](err)
		if !ok {
			why = &RefusedKey{Problem: KeyUnknown}
		}
		return a.refuse(c, why, err.Error())
	case err != nil:
		return unavailable(err)
	}
	c.key, c.presented = key, presented
	if !a.limits.allow(key.ID) {
		p := newProblem(http.StatusTooManyRequests, rateLimitedReason, "Too many requests",
			fmt.Sprintf("the key %q may make %g requests a second", key.Name, a.PerSecond))
		p.retryAfter = time.Second
		return p
	}
	return nil
}
