package callback

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"syscall"
	"time"

	"code.dny.dev/ssrf"
)

const (
	connectTimeout = 5 * time.Second
	idleTimeout    = time.Minute
	idlePerHost    = 16
	mostHeader     = 16 << 10 // bytes of an answer
)

// forbiddenError says that an address is not to be connected to.
type forbiddenError struct{ addr netip.Addr }

func (e *forbiddenError) Error() string {
	return fmt.Sprintf("%s is private or special", e.addr)
}

// proxyError is a failure of our own proxy. Its text holds nothing of the URL.
type proxyError struct{ what string }

func (e *proxyError) Error() string { return e.what }

// unreachableError is what a proxy says of the receiver.
type unreachableError struct{ code int }

func (e *unreachableError) Error() string {
	return fmt.Sprintf("the proxy could not reach it (HTTP %d)", e.code)
}

// guard decides which addresses may be connected to. It is asked with the address
// that is connected to, after names were resolved, so that a name that changes its
// address gets nowhere.
type guard struct {
	public  *ssrf.Guardian
	allowed []netip.Prefix
}

// newGuard refuses what IANA's registries have as special, which a well-kept
// library generates from them; and the address at which one cloud's machines find
// their host, which is a public one.
func newGuard(allowed []netip.Prefix) guard {
	return guard{allowed: allowed, public: ssrf.New(ssrf.WithAnyPort(), ssrf.WithAnyNetwork(),
		ssrf.WithDeniedV4Prefixes(netip.PrefixFrom(netip.AddrFrom4([4]byte{168, 63, 129, 16}), 32)))}
}

// check says whether a connection may be made, by plain http where plain.
func (g guard) check(addr netip.Addr, plain bool) error {
	addr = addr.Unmap().WithZone("")
	if slices.ContainsFunc(g.allowed, func(p netip.Prefix) bool { return p.Contains(addr) }) {
		return nil
	}
	if plain || g.public.SafeAddr(addr) != nil {
		return &forbiddenError{addr}
	}
	return nil
}

// control is for a [net.Dialer], which calls it before each connect.
func (g guard) control(plain bool) func(network, address string, _ syscall.RawConn) error {
	return func(_, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil {
			return &forbiddenError{}
		}
		return g.check(to.Addr(), plain)
	}
}

// newTransport makes connections to allowed addresses only: to a proxy, where
// there is one, which must do the same for what it connects to.
func newTransport(g guard, resolver *net.Resolver, proxy *url.URL, plain bool) *http.Transport {
	dialer := &net.Dialer{Timeout: connectTimeout, Resolver: resolver, Control: g.control(plain)}
	t := &http.Transport{
		DialContext:            dialer.DialContext,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true, // a small answer must not become a large one
		TLSHandshakeTimeout:    connectTimeout,
		MaxIdleConnsPerHost:    idlePerHost,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: mostHeader,
	}
	if proxy == nil {
		return t
	}
	dialer.Control = nil
	t.Proxy = http.ProxyURL(proxy)
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, network, address)
		if err != nil && ctx.Err() == nil {
			return nil, &proxyError{"the proxy cannot be reached"}
		}
		return conn, err
	}
	t.OnProxyConnectResponse = func(_ context.Context, _ *url.URL, _ *http.Request, answer *http.Response) error {
		switch answer.StatusCode {
		case http.StatusOK:
			return nil
		case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			return &unreachableError{answer.StatusCode}
		}
		return &proxyError{fmt.Sprintf("the proxy refuses to connect (HTTP %d)", answer.StatusCode)}
	}
	return t
}

// literal refuses a host that is a forbidden address, or one that only a proxy
// would resolve and that is to be reached by plain http.
func (g guard) literal(u *url.URL) error {
	addr, err := netip.ParseAddr(u.Hostname())
	switch {
	case err == nil:
		return g.check(addr, u.Scheme == "http")
	case u.Scheme == "http":
		return errors.New("plain http through a proxy is only for addresses")
	}
	return nil
}
