package tasks

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"

	"github.com/kyclink/kyclink/internal/hostname"
)

// Callbacks says where callbacks may go. The zero value says that they are off:
// a request that has a callback_url is refused then.
type Callbacks struct {
	// Hosts are those that callbacks may go to, on any port; "*" is any host. They are
	// compared as IDNA and IPv6 have them: bücher.example is xn--bcher-kva.example.
	Hosts []string
	// AllowCIDRs are private or loopback ranges that callbacks may go to all the
	// same, by plain http too. The addresses of everything else must be public;
	// whoever delivers looks at them, as a name may change its address.
	AllowCIDRs []netip.Prefix
}

// On says whether there are callbacks at all.
func (c Callbacks) On() bool { return len(c.Hosts) > 0 }

// Problem says what is wrong with a callback_url as a destination; "" where
// nothing is, or where it is empty.
func (c Callbacks) Problem(callbackURL string) string {
	if callbackURL == "" {
		return ""
	}
	if !c.On() {
		return "callbacks are off; leave the key out, or name its host in KYCLINK_CALLBACK_HOSTS"
	}
	u, err := url.Parse(callbackURL)
	if err != nil {
		return "is not a URL"
	}
	host, err := hostname.Canonical(u.Hostname())
	if err != nil {
		return fmt.Sprintf("names a host that %v", err)
	}
	if !slices.ContainsFunc(c.Hosts, func(h string) bool { return h == "*" || sameHost(h, host) }) {
		return fmt.Sprintf("must not go to %s, which KYCLINK_CALLBACK_HOSTS does not name", host)
	}
	if u.Scheme == "http" && !c.mayBePlain(host) {
		return "must start with https://; http:// is only for addresses in KYCLINK_CALLBACK_ALLOW_CIDRS"
	}
	return ""
}

// mayBePlain takes a name for allowed where any range is: its address is looked
// at when it is connected to.
func (c Callbacks) mayBePlain(host string) bool {
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return len(c.AllowCIDRs) > 0
	}
	return slices.ContainsFunc(c.AllowCIDRs, func(p netip.Prefix) bool { return p.Contains(addr.Unmap()) })
}

// sameHost compares what is set with a canonical host.
func sameHost(set, canonical string) bool {
	host, err := hostname.Canonical(set)
	return err == nil && host == canonical
}
