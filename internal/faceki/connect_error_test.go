package faceki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/fault"
)

// clientBehind returns a client that uses a proxy with a password.
func clientBehind(t *testing.T, proxy string) *Client {
	t.Helper()
	c, _ := client(t, "https://sdk.faceki.example", func(c *Config) { c.Simulated = false })
	c.pool.transport.Proxy = http.ProxyURL(&url.URL{Scheme: "http", User: url.UserPassword("user", "s3cr3t"), Host: proxy})
	c.target = c.pool.target(c.base)
	return c
}

// expectNotSent checks that a connect fails with this detail, which does not show a secret.
func expectNotSent(t *testing.T, c *Client, want string) {
	t.Helper()
	f := c.Connect(t.Context())
	if f == nil || f.Kind != fault.NotSent || !strings.HasPrefix(f.Detail, want) || strings.Contains(f.Detail, "s3cr3t") {
		t.Errorf("fault %v\nwant one that begins with %q", f, want)
	}
}

func TestConnect_NamesTheProxyThatRefuses(t *testing.T) {
	var status int
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect || r.Host != "sdk.faceki.example:443" {
			t.Errorf("the proxy received %s %s", r.Method, r.Host)
		}
		http.Error(w, "no", status)
	}))
	defer proxy.Close()
	host := proxy.Listener.Addr().String()
	const unreachable = ": it cannot reach this host"
	for code, why := range map[int]string{
		407: ": it requires a user name and password; set them in HTTPS_PROXY", 403: ": it does not allow this host",
		502: unreachable, 503: unreachable, 504: unreachable, 500: "",
	} {
		status = code
		f := clientBehind(t, host).Connect(t.Context())
		if want := fmt.Sprintf("the proxy %s answered HTTP %d%s", host, code, why); f == nil || f.Kind != fault.NotSent || f.Detail != want {
			t.Errorf("HTTP %d: fault %v\nwant %q", code, f, want)
		}
	}
}

func TestConnect_NamesTheProxyThatIsDown(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	host := l.Addr().String()
	expectNotSent(t, clientBehind(t, host), "the proxy "+host+" refused the connection")
}

func TestConnect_SaysWhyACertificateIsNotTrusted(t *testing.T) {
	now := time.Now()
	for name, tt := range map[string]struct {
		change  func(*x509.Certificate)
		trusted bool
		want    string
	}{
		"unknown authority": {nil, false, ` is issued by "Corp\u001b CA", which this machine does not trust`},
		"expired":           {func(c *x509.Certificate) { c.NotBefore, c.NotAfter = now.Add(-2*time.Hour), now.Add(-time.Hour) }, true, " has expired or is not valid yet"},
		"not valid yet":     {func(c *x509.Certificate) { c.NotBefore, c.NotAfter = now.Add(time.Hour), now.Add(2*time.Hour) }, true, " has expired or is not valid yet"},
		"another name":      {func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(10, 0, 0, 1)} }, true, " is for another name than 127.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			certificate := selfSigned(t, tt.change)
			s := httptest.NewUnstartedServer(http.NotFoundHandler())
			s.Config.ErrorLog = zap.NewStdLog(zap.NewNop())
			s.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
			s.StartTLS()
			defer s.Close()
			c, _ := client(t, s.URL, nil)
			if tt.trusted {
				c.pool.transport.TLSClientConfig.RootCAs = x509.NewCertPool()
				c.pool.transport.TLSClientConfig.RootCAs.AddCert(certificate.Leaf)
			}
			expectNotSent(t, c, "the certificate of "+c.base.Host+tt.want)
		})
	}
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	c, _ := client(t, "https://"+plain.Listener.Addr().String(), nil)
	expectNotSent(t, c, c.base.Host+" does not speak TLS")
}

func selfSigned(t *testing.T, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Corp\x1b CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	if change != nil {
		change(c)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// TestTarget_DescribesEachCause tests the causes that a test cannot produce.
func TestTarget_DescribesEachCause(t *testing.T) {
	dial := func(err error) error {
		return &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", err)}
	}
	proxied := func(err error) error { return &net.OpError{Op: "proxyconnect", Net: "tcp", Err: err} }
	p := target{host: "sdk.faceki.com", address: "sdk.faceki.com", proxy: "proxy.corp:3128"}
	for want, err := range map[string]error{
		"the name server reports that sdk.faceki.com does not exist":                                                &net.DNSError{IsNotFound: true},
		"the name server did not answer for sdk.faceki.com":                                                         &net.DNSError{IsTimeout: true},
		"the name server could not resolve sdk.faceki.com":                                                          &net.DNSError{Err: "server misbehaving"},
		"the name server reports that proxy.corp does not exist":                                                    proxied(&net.DNSError{IsNotFound: true}),
		"there is no route to sdk.faceki.com":                                                                       dial(syscall.ENETUNREACH),
		"there is no route to the proxy proxy.corp:3128":                                                            proxied(dial(syscall.EHOSTUNREACH)),
		"too many open files; raise the limit (ulimit -n, or LimitNOFILE of systemd)":                               dial(syscall.EMFILE),
		"this machine has no free port for a connection to sdk.faceki.com":                                          dial(syscall.EADDRNOTAVAIL),
		"this machine does not allow connections to sdk.faceki.com; check its firewall":                             dial(syscall.EACCES),
		"sdk.faceki.com reset the connection":                                                                       dial(syscall.ECONNRESET),
		"no answer from the proxy proxy.corp:3128":                                                                  proxied(dial(syscall.ETIMEDOUT)),
		"sdk.faceki.com and this program have no common TLS version or cipher, or it requires a client certificate": tls.AlertError(40),
		"": errors.New("GET https://sdk.faceki.com/?clientSecret=s3cr3t: something else"),
	} {
		if got := p.describe(fmt.Errorf("wrapped: %w", err)); got != want {
			t.Errorf("describe(%v) = %q, want %q", err, got, want)
		}
	}
}
