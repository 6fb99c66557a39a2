package faceki

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"syscall"
)

// proxyRefusal says that the proxy did not make the connection that it was asked for.
type proxyRefusal struct {
	proxy  string // host:port
	status int
}

func (e *proxyRefusal) Error() string {
	why := map[int]string{
		http.StatusProxyAuthRequired:  ": it wants a user name and password, which HTTPS_PROXY may hold",
		http.StatusForbidden:          ": it does not allow this host",
		http.StatusBadGateway:         ": it cannot reach this host",
		http.StatusServiceUnavailable: ": it cannot reach this host",
		http.StatusGatewayTimeout:     ": it cannot reach this host",
	}[e.status]
	return fmt.Sprintf("the proxy %s answered HTTP %d%s", e.proxy, e.status, why)
}

// refusedByProxy is the transport's hook for the answer to a CONNECT.
func refusedByProxy(_ context.Context, proxy *url.URL, _ *http.Request, answer *http.Response) error {
	if answer.StatusCode == http.StatusOK {
		return nil
	}
	return &proxyRefusal{proxy.Host, answer.StatusCode}
}

// place is whom a connection goes to.
type place struct {
	host    string // FaceKi's
	address string // with its port
	proxy   string // host:port of the proxy; "" where there is none
}

func (s *spares) place(base *url.URL) place {
	p := place{host: base.Hostname(), address: base.Host}
	if proxy, err := s.transport.Proxy(&http.Request{URL: base}); err == nil && proxy != nil {
		p.proxy = proxy.Host // without its user and password
	}
	return p
}

// cause says in words of our own why a connection failed and at whom, "" where that
// is not known. The error's text is not used: it may hold the URL, and with it the secret.
func (p place) cause(err error) string {
	var refusal *proxyRefusal
	var op *net.OpError
	if errors.As(err, &refusal) {
		return refusal.Error()
	}
	whom, host := p.address, p.host
	if errors.As(err, &op) && op.Op == "proxyconnect" {
		whom, host = "the proxy "+p.proxy, p.proxy
		if name, _, err := net.SplitHostPort(p.proxy); err == nil {
			host = name
		}
	}
	switch {
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return "no more files can be opened; raise the limit (ulimit -n, or LimitNOFILE of systemd)"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "this machine has no free port for a connection to " + whom
	}
	if said := nameCause(err, host); said != "" {
		return said
	}
	if said := tlsCause(err, whom, host); said != "" {
		return said
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return whom + " refused the connection"
	case errors.Is(err, syscall.ECONNRESET):
		return whom + " reset the connection"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "there is no route to " + whom
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return "this machine does not allow connections to " + whom + "; look at its firewall"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return whom + " closed the connection"
	case errors.Is(err, syscall.ETIMEDOUT), errors.Is(err, context.DeadlineExceeded), op != nil && op.Timeout():
		return "no answer from " + whom
	}
	return ""
}

func nameCause(err error, host string) string {
	var name *net.DNSError
	switch {
	case !errors.As(err, &name):
		return ""
	case name.IsNotFound:
		return "the name " + host + " does not exist, as the name server says"
	case name.IsTimeout:
		return "the name server did not answer when asked for " + host
	}
	return "the name server could not resolve " + host
}

func tlsCause(err error, whom, host string) string {
	var (
		certificate *tls.CertificateVerificationError
		authority   x509.UnknownAuthorityError
		name        x509.HostnameError
		invalid     x509.CertificateInvalidError
		record      tls.RecordHeaderError
		alert       tls.AlertError
	)
	switch {
	case errors.As(err, &authority):
		return "the certificate of " + whom + " is issued by " + issuer(authority.Cert) +
			", which this machine does not trust; if that is your own proxy's, give its certificate in SSL_CERT_FILE"
	case errors.As(err, &name):
		return "the certificate of " + whom + " is for another name than " + host
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "the certificate of " + whom + " has expired or is not valid yet; look at this machine's clock, too"
	case errors.As(err, &certificate):
		return "the certificate of " + whom + " is not trusted"
	case errors.As(err, &record):
		return whom + " does not speak TLS"
	case errors.As(err, &alert):
		return whom + " and this program have no TLS version and cipher in common, or it wants a client certificate"
	}
	return ""
}

// issuer is as the certificate says, which anybody may have written.
func issuer(c *x509.Certificate) string {
	if c == nil {
		return "an unknown authority"
	}
	name := c.Issuer.CommonName
	if name == "" && len(c.Issuer.Organization) > 0 {
		name = c.Issuer.Organization[0]
	}
	if said := (private{}).quoted(name, maxTitle); said != "" {
		return said
	}
	return "an unknown authority"
}
