package redistest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Certificates are PEM files: the certificate of a private CA, and those that it signed, for
// servers at 127.0.0.1 and for a client, with their keys.
type Certificates struct {
	CA, ServerCert, ServerKey, ClientCert, ClientKey string
}

// NewCertificates makes a CA and its certificates. They are removed at the end of the test.
func NewCertificates(t testing.TB) Certificates {
	t.Helper()
	dir := t.TempDir()
	c := Certificates{
		filepath.Join(dir, "ca.pem"), filepath.Join(dir, "server.pem"), filepath.Join(dir, "server-key.pem"),
		filepath.Join(dir, "client.pem"), filepath.Join(dir, "client-key.pem"),
	}
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Invented CA"}, NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	key := newKey(t)
	signed := sign(t, root, root, key, key)
	writePEM(t, c.CA, "CERTIFICATE", signed)
	for n, leaf := range []struct{ cert, key string }{{c.ServerCert, c.ServerKey}, {c.ClientCert, c.ClientKey}} {
		own := newKey(t)
		template := &x509.Certificate{
			SerialNumber: big.NewInt(int64(n + 2)), NotAfter: root.NotAfter, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, // a server is a client of the others
		}
		writePEM(t, leaf.cert, "CERTIFICATE", sign(t, template, root, own, key))
		encoded, err := x509.MarshalPKCS8PrivateKey(own)
		if err != nil {
			t.Fatal(err)
		}
		writePEM(t, leaf.key, "PRIVATE KEY", encoded)
	}
	return c
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t testing.TB, template, parent *x509.Certificate, own, signer *ecdsa.PrivateKey) []byte {
	t.Helper()
	signed, err := x509.CreateCertificate(rand.Reader, template, parent, own.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func writePEM(t testing.TB, path, kind string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// settings are the lines of a configuration in which a server accepts TLS at a port, only from
// clients with a certificate of the CA.
func (c Certificates) settings(port int) []string {
	return []string{
		"tls-port " + strconv.Itoa(port), "tls-ca-cert-file " + c.CA, "tls-cert-file " + c.ServerCert, "tls-key-file " + c.ServerKey,
		"tls-auth-clients yes", "tls-replication yes",
	}
}

// StartTLS runs a server that also accepts TLS, at addr, only from clients with a certificate
// of the CA. Its own address is for the test.
func StartTLS(t testing.TB, c Certificates, args ...string) (s *Server, addr string) {
	t.Helper()
	s, err := launch(func(s *Server, port int) error {
		encrypted, err := FreePort()
		addr = fmt.Sprint("127.0.0.1:", encrypted)
		var all []string
		for _, line := range c.settings(encrypted) {
			name, value, _ := strings.Cut(line, " ")
			all = append(all, "--"+name, value)
		}
		s.args = arguments(s.dir, port, append(all, args...))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s, addr
}

// StartTLSSentinel runs one sentinel that accepts TLS like [StartTLS], for a master at the
// address of its TLS. The result is in the form of redis.ParseFailoverURL.
func StartTLSSentinel(t testing.TB, c Certificates, master string) (url string) {
	t.Helper()
	host, port, _ := strings.Cut(master, ":")
	s, err := launch(func(s *Server, own int) error {
		encrypted, err := FreePort()
		if err != nil {
			return err
		}
		url = fmt.Sprintf("rediss://127.0.0.1:%d/0?master_name=%s", encrypted, masterName)
		file := filepath.Join(s.dir, "sentinel.conf") // the sentinel rewrites it
		s.args = []string{file, "--sentinel"}
		lines := append(c.settings(encrypted), "bind 127.0.0.1", "port "+strconv.Itoa(own), "dir "+s.dir, "loglevel warning",
			fmt.Sprintf("sentinel monitor %s %s %s 1", masterName, host, port), "")
		return os.WriteFile(file, []byte(strings.Join(lines, "\n")), 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return url
}
