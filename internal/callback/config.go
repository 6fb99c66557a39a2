package callback

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/kyclink/kyclink/internal/hostname"
	"github.com/kyclink/kyclink/tasks"
)

// Config configures where callbacks may be sent, and how.
type Config struct {
	// Secret contains the signing secrets: several, the newest first, while receivers
	// change from one to the other.
	Secret Secret `env:"KYCLINK_CALLBACK_SECRET"`
	// Hosts are the hosts that callbacks may be sent to, "*" any; with none, callbacks are
	// off.
	Hosts []string `env:"KYCLINK_CALLBACK_HOSTS"`
	// AllowCIDRs are private or loopback ranges that are allowed, with plain http as well.
	AllowCIDRs []string `env:"KYCLINK_CALLBACK_ALLOW_CIDRS"`
	// Proxy is the URL of an HTTP proxy for all callbacks; "": none.
	Proxy Secret `env:"KYCLINK_CALLBACK_PROXY"`
	// Timeout is the longest that an attempt takes; 0 means 15 s.
	Timeout time.Duration
}

// Validate returns all problems at once, each with the name of its variable. No problem
// contains a secret.
func (c Config) Validate() []error {
	var problems []error
	problem := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	for i, secret := range c.Secret.each() {
		if err := wrongSecret(secret); err != nil {
			problem("KYCLINK_CALLBACK_SECRET: secret %d %v; use whsec_ and the base64 of %d to %d random bytes, several separated by blanks", i+1, err, leastKey, mostKey)
		}
	}
	for _, host := range c.Hosts {
		if wrongHost(host) {
			problem("KYCLINK_CALLBACK_HOSTS holds %q, which is no host name alone; list host names such as shop.example, separated by commas, or * for any", host)
		}
	}
	for _, text := range c.AllowCIDRs {
		if _, err := netip.ParsePrefix(text); err != nil {
			problem("KYCLINK_CALLBACK_ALLOW_CIDRS holds %q, which is no range; list ranges such as 127.0.0.0/8, separated by commas", text)
		}
	}
	if c.Proxy != "" {
		if wrong := wrongProxy(string(c.Proxy)); wrong != "" {
			problem("KYCLINK_CALLBACK_PROXY %s; use one such as http://proxy.example:3128", wrong)
		}
	}
	return problems
}

func wrongHost(host string) bool {
	if host == "*" {
		return false
	}
	_, err := hostname.Canonical(host)
	return err != nil
}

// wrongProxy says what is wrong with a proxy's URL. It does not repeat the URL, which may
// contain a password.
func wrongProxy(proxy string) string {
	u, err := url.Parse(proxy)
	if err != nil || u.Scheme != "http" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" {
		return "is no HTTP proxy's address"
	}
	return hostname.WrongPort(u)
}

// Callbacks returns the part that producers need. It is valid if [Config.Validate] found no
// problem.
func (c Config) Callbacks() tasks.Callbacks {
	hooks := tasks.Callbacks{Hosts: c.Hosts}
	for _, text := range c.AllowCIDRs {
		if prefix, err := netip.ParsePrefix(text); err == nil {
			hooks.AllowCIDRs = append(hooks.AllowCIDRs, prefix.Masked())
		}
	}
	return hooks
}
