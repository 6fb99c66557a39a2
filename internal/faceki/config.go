package faceki

import (
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/kyclink/kyclink/internal/hostname"
)

// The ways to request an access token, see [Config.Auth].
const (
	AuthPost = "post"
	AuthGet  = "get"
)

// The JSON types of the expiry time, see [Config.ExpiryType].
const (
	ExpiryNumber = "number"
	ExpiryString = "string"
)

// SimulatedHost is the host of simulated links. It cannot exist (RFC 2606), so a
// simulated link cannot be mistaken for a real one.
const SimulatedHost = "simulator.invalid"

// Config configures a [Client]. Every field except Simulated must be set.
type Config struct {
	ClientID     string `env:"FACEKI_CLIENT_ID"`
	ClientSecret Secret `env:"FACEKI_CLIENT_SECRET"`
	// BaseURL is https, or http to a loopback address. It may have a path.
	BaseURL string `env:"FACEKI_BASE_URL, default=https://sdk.faceki.com"`
	// Auth is AuthPost, or AuthGet for the older API, which has the secret in the URL.
	Auth string `env:"FACEKI_AUTH, default=post"`
	// ExpiryType is ExpiryNumber or ExpiryString: the vendor's documentation is inconsistent.
	ExpiryType string `env:"FACEKI_EXPIRY_TYPE, default=number"`
	// LinkHosts are the allowed hosts of real links.
	LinkHosts []string `env:"FACEKI_LINK_HOSTS, default=apps.faceki.com"`
	// Timeout limits one call of CreateLink, and one request for a token.
	Timeout time.Duration `env:"FACEKI_TIMEOUT, default=15s"`
	// Simulated means that the upstream is the simulator: only links on SimulatedHost are
	// accepted.
	Simulated bool
}

// Validate returns all problems, each with the name of its variable. No problem contains
// a secret.
func (c Config) Validate() []error {
	var problems []error
	problem := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if c.ClientID == "" {
		problem("FACEKI_CLIENT_ID is missing; set it to the client id of the FaceKi account, or use --simulate for a trial with simulated links")
	}
	if c.ClientSecret == "" {
		problem("FACEKI_CLIENT_SECRET is missing; set it to the client secret of the FaceKi account, or use --simulate for a trial with simulated links")
	}
	if wrong := wrongBaseURL(c.BaseURL); wrong != "" {
		problem("FACEKI_BASE_URL %s; use a URL such as https://sdk.faceki.com", wrong)
	}
	if c.Auth != AuthPost && c.Auth != AuthGet {
		problem("FACEKI_AUTH is %q; use post, or get for the older generation of the API", c.Auth)
	}
	if c.ExpiryType != ExpiryNumber && c.ExpiryType != ExpiryString {
		problem("FACEKI_EXPIRY_TYPE is %q; use number or string", c.ExpiryType)
	}
	if len(c.LinkHosts) == 0 {
		problem("FACEKI_LINK_HOSTS is empty; list the hosts that links may be on, such as apps.faceki.com")
	}
	for _, host := range c.LinkHosts {
		if wrong := wrongLinkHost(host); wrong != "" {
			problem("FACEKI_LINK_HOSTS holds %q, which %s; list host names such as apps.faceki.com, separated by commas", host, wrong)
		}
	}
	if c.Timeout <= 0 {
		problem("FACEKI_TIMEOUT is %v; use a time above zero, such as 15s", c.Timeout)
	}
	return problems
}

// wrongBaseURL returns what is wrong with a base URL. It does not repeat the URL, which
// may contain a password.
func wrongBaseURL(s string) string {
	u, err := url.Parse(s)
	switch {
	case s == "":
		return "is empty"
	case err != nil || u.Opaque != "":
		return "is not a URL"
	case u.Scheme != "https" && u.Scheme != "http":
		return "does not start with https://"
	case u.Hostname() == "":
		return "names no host"
	case u.User != nil:
		return "holds a user name or password"
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return "holds a query or a fragment"
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return "is plain http, which only loopback addresses may be"
	}
	return hostname.WrongPort(u)
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func wrongLinkHost(host string) string {
	u, err := url.Parse("https://" + host)
	switch {
	case host == "":
		return "is empty"
	case strings.TrimSpace(host) != host:
		return "has blanks around it"
	case err != nil || u.Host != host || u.Port() != "" || strings.HasSuffix(host, ":"):
		return "is not a host name alone"
	case host == SimulatedHost || strings.HasSuffix(strings.ToLower(host), ".invalid"):
		return "is kept for simulated links"
	}
	return ""
}

// linkHost reports whether links on the host are accepted.
func (c Config) linkHost(host string) bool {
	if c.Simulated {
		return host == SimulatedHost
	}
	for _, allowed := range c.LinkHosts {
		if strings.EqualFold(host, allowed) {
			return true
		}
	}
	return false
}
