// Package peerlimit limits what network addresses may do, in a bounded amount of memory.
package peerlimit

import (
	"hash/maphash"
	"net/netip"

	"golang.org/x/time/rate"
)

// addresses is the number of limiters; addresses with the same hash share one.
const addresses = 1 << 12

// Limits is a rate limit for each address. It is safe for concurrent use.
type Limits struct {
	seed     maphash.Seed
	limiters [addresses]*rate.Limiter
}

// New returns limits that allow each address so many events per second, and burst at once.
func New(perSecond rate.Limit, burst int) *Limits {
	l := &Limits{seed: maphash.MakeSeed()}
	for i := range l.limiters {
		l.limiters[i] = rate.NewLimiter(perSecond, burst)
	}
	return l
}

// Of returns the limiter of an address. An IPv6 /64 network counts as one address.
func (l *Limits) Of(addr netip.Addr) *rate.Limiter {
	addr = addr.Unmap().WithZone("")
	if addr.Is6() {
		if network, err := addr.Prefix(64); err == nil {
			addr = network.Addr()
		}
	}
	return l.limiters[maphash.Comparable(l.seed, addr)%addresses]
}
