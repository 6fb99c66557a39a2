package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/fixture"
)

// serving is a running kyclink serve with an API key.
type serving struct {
	*process
	addr, key string
}

func startServe(t *testing.T, redisURL string, settings ...string) serving {
	t.Helper()
	settings = append([]string{"KYCLINK_REDIS_URL=" + redisURL, "KYCLINK_LISTEN=127.0.0.1:0"}, settings...)
	code, key, stderr := kyclink(t, settings, "keys", "create", "--name", "shop", "--scope", "enqueue,read,operate")
	if code != 0 {
		t.Fatal(stderr)
	}
	s := serving{process: start(t, settings, "serve"), key: strings.TrimSpace(key)}
	found := regexp.MustCompile(`"address":"([^"]+)"`)
	fixture.Eventually(t, "it listens", func() bool {
		m := found.FindStringSubmatch(s.stderr.String())
		if m != nil {
			s.addr = m[1]
		}
		return m != nil
	})
	return s
}

// ask sends a request with the API key and returns the status and the body.
func (s serving) ask(client *http.Client, method, url, body string, headers ...string) (int, string) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, url, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.key)
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(text)
}

// A request over HTTP gets the link that a worker creates, a stop answers waiting
// clients, and the log contains no secret.
func TestServe_AcceptsShowsAndExports(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	_, sim := upstream(t, `{}`)
	s := startServe(t, server.URL)
	links := "http://" + s.addr + "/v1/links"
	waiting := make(chan int, 1)
	go func() {
		status, _ := s.ask(http.DefaultClient, "POST", links+"?", `{"application_id":"A-0","not_after":"2099-01-01T00:00:00Z"}`, "Prefer", "wait=1")
		waiting <- status
	}()
	if status := <-waiting; status != http.StatusAccepted { // there is no worker yet
		t.Errorf("without a worker: %d", status)
	}
	w := start(t, []string{"KYCLINK_REDIS_URL=" + server.URL, sim}, "worker", "--simulate")
	status, body := s.ask(http.DefaultClient, "POST", links, `{"application_id":"A-1"}`, "Prefer", "wait=30")
	if status != http.StatusCreated || !strings.Contains(body, "https://simulator.invalid/") {
		t.Errorf("%d %s", status, body)
	}
	w.kill()
	go func() {
		status, _ := s.ask(http.DefaultClient, "POST", links, `{"application_id":"A-2"}`, "Prefer", "wait=30")
		waiting <- status
	}()
	fixture.Eventually(t, "it is accepted", func() bool {
		status, _ := s.ask(http.DefaultClient, "GET", links+"/A-2", "")
		return status == http.StatusOK
	})
	s.signal(syscall.SIGTERM)
	if status := <-waiting; status != http.StatusAccepted {
		t.Errorf("the waiting client got %d at the stop", status)
	}
	if code := s.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	for _, secret := range []string{s.key, "simulator.invalid", "A-1"} {
		if log := s.stderr.String(); strings.Contains(log, secret) || !strings.Contains(log, `"route":"POST /v1/links"`) {
			t.Errorf("the log contains %q, or no request:\n%s", secret, log)
		}
	}
	code, trail, _ := kyclink(t, []string{"KYCLINK_REDIS_URL=" + server.URL}, "audit")
	if code != 0 || strings.Count(trail, "links.request") != 3 {
		t.Errorf("the audit trail, %d:\n%s", code, trail)
	}
}

func TestServe_ExplainsThatItsAddressIsTaken(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	code, _, stderr := kyclink(t, []string{"KYCLINK_REDIS_URL=" + newRedis(t).URL, "KYCLINK_LISTEN=" + l.Addr().String()}, "serve")
	if code != exitError || !strings.Contains(stderr, "is in use") {
		t.Errorf("%d %s", code, stderr)
	}
}

// certify writes a certificate for 127.0.0.1 and its private key.
func certify(t *testing.T, serial int64, cert, key string) *x509.Certificate {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "shop"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	write(t, key, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})))
	write(t, cert, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func TestServe_ReloadsItsCertificate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	first := certify(t, 1, cert, key)
	s := startServe(t, newRedis(t).URL, "KYCLINK_TLS_CERT="+cert, "KYCLINK_TLS_KEY="+key)
	// over sends a request on a new connection and returns the status, or the error if
	// the certificate is not trusted.
	over := func(trusted *x509.Certificate) string {
		roots := x509.NewCertPool()
		roots.AddCert(trusted)
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}
		defer transport.CloseIdleConnections()
		status, body := s.ask(&http.Client{Transport: transport}, "GET", "https://"+s.addr+"/v1/account", "")
		if status == 0 {
			return body
		}
		return fmt.Sprint(status)
	}
	if got := over(first); got != "200" {
		t.Fatal(got)
	}
	write(t, cert, "half a certificate")
	fixture.Eventually(t, "it logs that the files cannot be used", func() bool {
		if got := over(first); got != "200" {
			t.Fatal(got)
		}
		return strings.Contains(s.stderr.String(), "reload of the TLS certificate failed")
	})
	second := certify(t, 2, cert, key)
	fixture.Eventually(t, "the new certificate is used", func() bool { return over(second) == "200" })
	if got := over(first); got == "200" {
		t.Error("the old one is still used")
	}
	_ = os.Remove(cert)
	code, _, stderr := kyclink(t, []string{"KYCLINK_REDIS_URL=" + newRedis(t).URL, "KYCLINK_LISTEN=127.0.0.1:0", "KYCLINK_TLS_CERT=" + cert, "KYCLINK_TLS_KEY=" + key}, "serve")
	if code != exitError || !strings.Contains(stderr, "KYCLINK_TLS_CERT") {
		t.Errorf("%d %s", code, stderr)
	}
}
