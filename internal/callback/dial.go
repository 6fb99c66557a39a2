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

// forbiddenError reports an address that must not be connected to.
type forbiddenError struct{ addr netip.Addr }

func (e *forbiddenError) Error() string {
	return fmt.Sprintf("%s is private or special", e.addr)
}

// proxyError is a failure of kyclink's own proxy. Its text contains no part of the URL.
type proxyError struct{ what string }

func (e *proxyError) Error() string { return e.what }

// unreachableError reports that the proxy could not reach the receiver.
type unreachableError struct{ code int }

func (e *unreachableError) Error() string {
	return fmt.Sprintf("the proxy could not reach it (HTTP %d)", e.code)
}

// guard decides which addresses may be connected to. It checks the address of the socket,
// after the name was resolved, so that a name that changes its address is caught.
type guard struct {
	public  *ssrf.Guardian
	allowed []netip.Prefix
}

// newGuard refuses the addresses that IANA's registries list as special, which the library
// generates from them, and the public address of the hosts of Azure's machines.
func newGuard(allowed []netip.Prefix) guard {
	return guard{allowed: allowed, public: ssrf.New(ssrf.WithAnyPort(), ssrf.WithAnyNetwork(),
		ssrf.WithDeniedV4Prefixes(netip.PrefixFrom(netip.AddrFrom4([4]byte{168, 63, 129, 16}), 32)))}
}

// check returns an error if the address must not be connected to; plain says that the
// connection uses plain http.
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

// control returns the Control function of a [net.Dialer], which runs before each connect.
func (g guard) control(plain bool) func(network, address string, _ syscall.RawConn) error {
	return func(_, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil {
			return &forbiddenError{}
		}
		return g.check(to.Addr(), plain)
	}
}

// newTransport returns a transport that connects to allowed addresses only. With a proxy,
// it connects to the proxy, which must check the addresses that it connects to.
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

// literal refuses a host that is a forbidden address, and a name over plain http, which
// only the proxy would resolve.
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
