package tasks

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// Callbacks says where callbacks may go. The zero value says that they are off:
// a request that has a callback_url is refused then.
type Callbacks struct {
	// Hosts are those that callbacks may go to, on any port; "*" is any host.
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
	host := plainHost(u.Hostname())
	if oddHost(host) {
		return "names a host that is neither a name nor an address as it is usually written"
	}
	if !slices.ContainsFunc(c.Hosts, func(h string) bool { return h == "*" || plainHost(h) == host }) {
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

func plainHost(host string) string { return strings.ToLower(strings.TrimSuffix(host, ".")) }

// oddHost says that a host is an IPv4 address to some, and a name to others:
// 2130706433, 0x7f.1 and 0177.0.0.1 are 127.0.0.1 to many a resolver and proxy.
func oddHost(host string) bool {
	last := host[strings.LastIndexByte(host, '.')+1:]
	if _, err := netip.ParseAddr(host); err == nil || last == "" {
		return last == ""
	}
	digits := strings.Trim(last, "0123456789") == ""
	return digits || strings.HasPrefix(last, "0x") && strings.Trim(last[2:], "0123456789abcdef") == ""
}
