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

// proxyError means that the proxy did not make the connection.
type proxyError struct {
	proxy  string // host:port
	status int
}

func (e *proxyError) Error() string {
	why := map[int]string{
		http.StatusProxyAuthRequired:  ": it requires a user name and password; set them in HTTPS_PROXY",
		http.StatusForbidden:          ": it does not allow this host",
		http.StatusBadGateway:         ": it cannot reach this host",
		http.StatusServiceUnavailable: ": it cannot reach this host",
		http.StatusGatewayTimeout:     ": it cannot reach this host",
	}[e.status]
	return fmt.Sprintf("the proxy %s answered HTTP %d%s", e.proxy, e.status, why)
}

// checkProxyResponse is called by the transport with the response to a CONNECT.
func checkProxyResponse(_ context.Context, proxy *url.URL, _ *http.Request, answer *http.Response) error {
	if answer.StatusCode == http.StatusOK {
		return nil
	}
	return &proxyError{proxy.Host, answer.StatusCode}
}

// target is the peer of a connection.
type target struct {
	host    string // of FaceKi
	address string // host and port
	proxy   string // host:port of the proxy, or ""
}

func (p *pool) target(base *url.URL) target {
	t := target{host: base.Hostname(), address: base.Host}
	if proxy, err := p.transport.Proxy(&http.Request{URL: base}); err == nil && proxy != nil {
		t.proxy = proxy.Host // without its user and password
	}
	return t
}

// describe returns why the connection to which peer failed, or "" if that is unknown. It
// does not use the text of the error, which may contain the URL and with it the secret.
func (t target) describe(err error) string {
	var refusal *proxyError
	var op *net.OpError
	if errors.As(err, &refusal) {
		return refusal.Error()
	}
	peer, host := t.address, t.host
	if errors.As(err, &op) && op.Op == "proxyconnect" {
		peer, host = "the proxy "+t.proxy, t.proxy
		if name, _, err := net.SplitHostPort(t.proxy); err == nil {
			host = name
		}
	}
	switch {
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return "too many open files; raise the limit (ulimit -n, or LimitNOFILE of systemd)"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "this machine has no free port for a connection to " + peer
	}
	if text := describeDNS(err, host); text != "" {
		return text
	}
	if text := describeTLS(err, peer, host); text != "" {
		return text
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return peer + " refused the connection"
	case errors.Is(err, syscall.ECONNRESET):
		return peer + " reset the connection"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "there is no route to " + peer
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return "this machine does not allow connections to " + peer + "; check its firewall"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return peer + " closed the connection"
	case errors.Is(err, syscall.ETIMEDOUT), errors.Is(err, context.DeadlineExceeded), op != nil && op.Timeout():
		return "no answer from " + peer
	}
	return ""
}

func describeDNS(err error, host string) string {
	var name *net.DNSError
	switch {
	case !errors.As(err, &name):
		return ""
	case name.IsNotFound:
		return "the name server reports that " + host + " does not exist"
	case name.IsTimeout:
		return "the name server did not answer for " + host
	}
	return "the name server could not resolve " + host
}

func describeTLS(err error, peer, host string) string {
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
		return "the certificate of " + peer + " is issued by " + issuer(authority.Cert) +
			", which this machine does not trust; if it belongs to your proxy, set SSL_CERT_FILE to its certificate"
	case errors.As(err, &name):
		return "the certificate of " + peer + " is for another name than " + host
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "the certificate of " + peer + " has expired or is not valid yet; also check this machine's clock"
	case errors.As(err, &certificate):
		return "the certificate of " + peer + " is not trusted"
	case errors.As(err, &record):
		return peer + " does not speak TLS"
	case errors.As(err, &alert):
		return peer + " and this program have no common TLS version or cipher, or it requires a client certificate"
	}
	return ""
}

// issuer returns the issuer that the certificate names. The text is untrusted.
func issuer(c *x509.Certificate) string {
	if c == nil {
		return "an unknown authority"
	}
	name := c.Issuer.CommonName
	if name == "" && len(c.Issuer.Organization) > 0 {
		name = c.Issuer.Organization[0]
	}
	if text := (redactor{}).quoted(name, maxTitle); text != "" {
		return text
	}
	return "an unknown authority"
}
