package tasks

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/kyclink/kyclink/internal/hostname"
	"github.com/kyclink/kyclink/internal/legible"
)

// Callbacks restricts where callbacks may go. The zero value turns callbacks off, so
// that a request with a callback_url is refused.
type Callbacks struct {
	// Hosts may receive callbacks, on any port; "*" allows every host. Names are compared
	// in their IDNA form, and IPv6 addresses in their canonical form: bücher.example
	// equals xn--bcher-kva.example.
	Hosts []string
	// AllowCIDRs are private or loopback ranges that may receive callbacks, also over
	// plain HTTP. All other addresses must be public; this is checked at delivery,
	// because the address of a name can change.
	AllowCIDRs []netip.Prefix
}

// On reports whether callbacks are on.
func (c Callbacks) On() bool { return len(c.Hosts) > 0 }

// Problem returns what is wrong with a callback_url as a destination, or "" if it is
// acceptable or empty.
func (c Callbacks) Problem(callbackURL string) string {
	if callbackURL == "" {
		return ""
	}
	if !c.On() {
		return "callbacks are off; omit the key, or add its host to KYCLINK_CALLBACK_HOSTS"
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
		return fmt.Sprintf("must not go to %s, which is not in KYCLINK_CALLBACK_HOSTS", host)
	}
	if u.Scheme == "http" && !c.mayBePlain(host) {
		return "must start with https://; http:// is only for addresses in KYCLINK_CALLBACK_ALLOW_CIDRS"
	}
	return ""
}

// mayBePlain reports whether plain HTTP is allowed. A name is accepted if there is any
// range: its address is checked when it is dialled.
func (c Callbacks) mayBePlain(host string) bool {
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return len(c.AllowCIDRs) > 0
	}
	return slices.ContainsFunc(c.AllowCIDRs, func(p netip.Prefix) bool { return p.Contains(addr.Unmap()) })
}

// destinations restricts where a request may send a person and its events.
type destinations struct {
	callbacks Callbacks
	redirects []redirectHosts // all of them must allow a redirect_url
}

// redirectHosts are the hosts that a redirect_url may name; every host if empty.
type redirectHosts struct {
	hosts  []string
	origin string // the setting or the key that lists the hosts
}

func (d destinations) problems(r *Request) []Problem {
	var problems []Problem
	for _, allowed := range d.redirects {
		if problem := allowed.problem(r.RedirectURL); problem != "" {
			problems = append(problems, Problem{"redirect_url", problem})
			break
		}
	}
	if problem := d.callbacks.Problem(r.CallbackURL); problem != "" {
		problems = append(problems, Problem{"callback_url", problem})
	}
	return problems
}

func (a redirectHosts) problem(redirectURL string) string {
	if redirectURL == "" || len(a.hosts) == 0 {
		return ""
	}
	u, err := url.Parse(redirectURL)
	if err != nil {
		return "is not a URL"
	}
	host, err := hostname.Canonical(u.Hostname())
	if err != nil {
		return fmt.Sprintf("names a host that %v", err)
	}
	if slices.ContainsFunc(a.hosts, func(h string) bool { return h == "*" || sameHost(h, host) }) {
		return ""
	}
	return fmt.Sprintf("must not lead to %s: %s allows %s", legible.Shorten(host), a.origin, strings.Join(a.hosts, ", "))
}

// sameHost compares a configured host with a canonical one.
func sameHost(configured, canonical string) bool {
	host, err := hostname.Canonical(configured)
	return err == nil && host == canonical
}
