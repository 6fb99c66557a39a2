package callback

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/kyclink/kyclink/internal/delivery"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/tasks"
)

func TestMain(m *testing.M) { fixture.Alone(m) }

const (
	otherSecret = "whsec_b2xkIHNlY3JldCBvZiAyNCBieXRlcyEh"
	body        = `{"type":"link.created","timestamp":"2026-11-23T10:00:00Z","data":{"application_id":"A-1001","generation":1,"run":1,` +
		`"link_id":"link/7","url":"https://kyc.example/link/7?a=1\u0026b=2","attempts":1,"possible_duplicates":0}}`
)

var loopback = []string{"127.0.0.0/8"}

func toDeliver(url string) delivery.Delivery {
	return delivery.Delivery{EventID: "5f0c7ee8-52a9-5f3e-8f0a-0d1f8c3b6f11", URL: url, Body: []byte(body)}
}

// The request follows Standard Webhooks; a receiver with either secret can verify it.
func TestSender_PostsSignedEvents(t *testing.T) {
	var got []*http.Request
	var bodies [][]byte
	port := receiver(t, "127.0.0.1:0", func(_ http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		got, bodies = append(got, r), append(bodies, raw)
	})
	s := sender(t, Config{AllowCIDRs: loopback, Secret: testSecret + " " + otherSecret}, nil)
	for range 2 {
		if reply := s.Post(t.Context(), toDeliver("http://127.0.0.1:"+port+"/hooks?a=b")); !reply.Accepted() || reply.Code != 200 || reply.At.IsZero() {
			t.Fatalf("got %+v", reply)
		}
	}
	for i, r := range got {
		if r.Method != "POST" || r.URL.String() != "/hooks?a=b" || r.Header.Get("Content-Type") != "application/json" || string(bodies[i]) != body {
			t.Errorf("the receiver got %s %s %v %s", r.Method, r.URL, r.Header, bodies[i])
		}
		for _, secret := range []string{testSecret, otherSecret} {
			official, err := standardwebhooks.NewWebhook(secret)
			if err != nil {
				t.Fatal(err)
			}
			if err := official.Verify(bodies[i], r.Header); err != nil {
				t.Errorf("the official library: %v", err)
			}
			event, err := tasks.VerifyCallback([]string{secret}, r.Header, bodies[i], nil)
			if err != nil || event.ID != toDeliver("").EventID || event.Data.LinkID != "link/7" {
				t.Errorf("verified as %+v, %v", event, err)
			}
		}
	}
	newest, _ := standardwebhooks.NewWebhook(testSecret)
	first, _, _ := strings.Cut(got[0].Header.Get("webhook-signature"), " ")
	got[0].Header.Set("webhook-signature", first)
	if err := newest.Verify(bodies[0], got[0].Header); err != nil {
		t.Errorf("the first signature is not the newest secret's: %v", err)
	}
	if got[0].RemoteAddr != got[1].RemoteAddr {
		t.Error("the connection was not used again")
	}
}

func TestReplyTo_ClassifiesEachStatus(t *testing.T) {
	for code := 200; code < 600; code++ {
		reply := replyTo(code, false)
		want, final := fault.Rejected, false
		switch {
		case code < 300:
			want = ""
		case code == 410:
			want, final = fault.Gone, true
		case code < 400:
			want = fault.Redirected
		case code == 408 || code == 425 || code >= 500:
			want = fault.ReceiverError
		case code == 429:
			want = fault.Throttled
		}
		if reply.Reason != string(want) || reply.Final != final || reply.NoAttempt || reply.Code != code {
			t.Errorf("%d: got %+v", code, reply)
		}
	}
}

// A Retry-After above 32 bits counts as the longest one, not as none.
func TestSender_ReadsRetryAfter(t *testing.T) {
	var header string
	port := receiver(t, "127.0.0.1:0", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", header)
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	s := sender(t, Config{AllowCIDRs: loopback, Secret: testSecret}, nil)
	for text, want := range map[string]time.Duration{"7": 7 * time.Second, "4294967296": mostWait, "0.5": 500 * time.Millisecond, "soon": 0} {
		header = text
		if reply := s.Post(t.Context(), toDeliver("http://127.0.0.1:"+port+"/")); reply.RetryAfter != want {
			t.Errorf("%q: %v, want %v", text, reply.RetryAfter, want)
		}
	}
}

func TestSender_ClassifiesMissingAnswers(t *testing.T) {
	over := make(chan struct{})
	hang := receiver(t, "127.0.0.1:0", func(http.ResponseWriter, *http.Request) { <-over })
	t.Cleanup(func() { close(over) }) // before the receiver is closed
	cut := receiver(t, "127.0.0.1:0", func(w http.ResponseWriter, _ *http.Request) {
		conn, _, _ := http.NewResponseController(w).Hijack()
		_ = conn.Close()
	})
	odd := receiver(t, "127.0.0.1:0", func(w http.ResponseWriter, _ *http.Request) {
		conn, _, _ := http.NewResponseController(w).Hijack()
		_, _ = conn.Write([]byte("private words\r\n\r\n"))
		_ = conn.Close()
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, closed, _ := net.SplitHostPort(l.Addr().String())
	_ = l.Close()
	unknown := httptest.NewTLSServer(nil)
	t.Cleanup(unknown.Close)
	unknown.Config.ErrorLog = nil
	for url, want := range map[string]struct {
		reason  fault.Reason
		message string
		within  time.Duration
	}{
		"http://127.0.0.1:" + hang:    {fault.Timeout, "no answer within 300ms", 300 * time.Millisecond},
		"http://127.0.0.1:" + cut:     {fault.Connection, "the connection was lost before an answer came", time.Minute},
		"http://127.0.0.1:" + odd:     {fault.Connection, "the connection was lost before an answer came", time.Minute},
		"http://127.0.0.1:" + closed:  {fault.Connection, "the connection was refused", time.Minute},
		"https://127.0.0.1:" + cut:    {fault.Connection, "it does not speak TLS", time.Minute},
		unknown.URL:                   {fault.Connection, "its certificate could not be verified", time.Minute},
		"https://none.example:" + cut: {fault.Connection, "its name could not be resolved", time.Minute},
	} {
		s := sender(t, Config{AllowCIDRs: loopback, Timeout: want.within}, names(t, func(string, int) []string { return nil }))
		reply := s.Post(t.Context(), toDeliver(url))
		if reply.Reason != string(want.reason) || reply.Message != want.message || reply.Final || reply.NoAttempt || reply.Code != 0 {
			t.Errorf("%s: got %+v, want %v", url, reply, want)
		}
	}
}

// The roots of the system are replaced by those of the test server.
func TestSender_VerifiesCertificates(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(server.Close)
	s := sender(t, Config{AllowCIDRs: loopback}, nil)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	s.secure.Transport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: roots}
	if reply := s.Post(t.Context(), toDeliver(server.URL)); !reply.Accepted() {
		t.Errorf("got %+v", reply)
	}
}

func TestSender_ChecksTheHostAgain(t *testing.T) {
	s := sender(t, Config{AllowCIDRs: loopback, Hosts: []string{"shop.example"}}, nil)
	if reply := s.Post(t.Context(), toDeliver("http://127.0.0.1:1/")); reply.Reason != string(fault.Forbidden) || !reply.Final {
		t.Errorf("got %+v", reply)
	}
}

// An answer is stored without the secrets that it may echo.
func TestSender_RedactsAnswers(t *testing.T) {
	s := sender(t, Config{AllowCIDRs: loopback}, nil)
	for _, c := range []struct{ said, kept string }{
		{"no such customer", "no such customer"},
		{"you sent " + body, `you sent {"type":"link.created","timestamp":"2026-11-23T10:00:00Z","data":{"application_id":"A-1001","generation":1,"run":1,"link_id":"[redacted]","url":"[redacted]","attempts":1,"possible_duplicates":0}}`},
		{"url https://kyc.example/link/7?a=1&b=2 or https://kyc.example/link/7?a=1&amp;b=2", "url [redacted] or [redacted]"},
		{`{"url":"https:\/\/kyc.example\/link\/7?a=1&b=2"}`, `{"url":"[redacted]"}`},
		{"my secret is " + testSecret + " or whsec_abc=", "my secret is [redacted] or [redacted]"},
		{"a\x1b[31m\x00 b\r\n\tc \xff", "a [31m b c �"},
		{strings.Repeat("é", 2000), strings.Repeat("é", mostKept) + "…"},
	} {
		port := receiver(t, "127.0.0.1:0", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte(c.said))
		})
		if reply := s.Post(t.Context(), toDeliver("http://127.0.0.1:"+port)); reply.Body != c.kept || reply.Code != 400 || reply.Final {
			t.Errorf("of %.80q was kept %.300q, want %.300q", c.said, reply.Body, c.kept)
		}
	}
	port := receiver(t, "127.0.0.1:0", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write([]byte(r.Header.Get("webhook-signature")))
	})
	if reply := s.Post(t.Context(), toDeliver("http://127.0.0.1:"+port)); reply.Body != "[redacted]" {
		t.Errorf("the signature was kept: %q", reply.Body)
	}
	port = receiver(t, "127.0.0.1:0", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		_, _ = fmt.Fprintf(w, "Cannot POST %s, query %s, http://%s%s", r.URL, r.URL.RawQuery, r.Host, r.URL)
	})
	if reply := s.Post(t.Context(), toDeliver("http://127.0.0.1:"+port+"/h/known?key=to-it-only")); reply.Body != "Cannot POST [redacted], query [redacted], [redacted]" {
		t.Errorf("of its own URL was kept: %q", reply.Body)
	}
}

// An answer without an end is read up to a limit.
func TestSender_StopsReadingAnEndlessAnswer(t *testing.T) {
	port := receiver(t, "127.0.0.1:0", func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			_, _ = w.Write(bytes.Repeat([]byte("x"), 1000))
		}
	})
	reply := sender(t, Config{AllowCIDRs: loopback}, nil).Post(t.Context(), toDeliver("http://127.0.0.1:"+port))
	if !reply.Accepted() || len(reply.Body) > mostKept+len("…") {
		t.Errorf("got %+v", reply)
	}
}

// proxy is an HTTP proxy; answer is its status for CONNECT, 200 to connect.
func proxy(t *testing.T, answer int) (address string) {
	t.Helper()
	forward := &httputil.ReverseProxy{Rewrite: func(*httputil.ProxyRequest) {}}
	return "http://user:secret-of-the-proxy@127.0.0.1:" + receiver(t, "127.0.0.1:0", func(w http.ResponseWriter, r *http.Request) {
		if answer != http.StatusOK {
			w.WriteHeader(answer)
			return
		}
		if r.Method != http.MethodConnect {
			forward.ServeHTTP(w, r)
			return
		}
		to, err := net.Dial("tcp", r.Host)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		w.WriteHeader(http.StatusOK)
		conn, buffered, _ := http.NewResponseController(w).Hijack()
		go func() {
			_, _ = io.Copy(to, bufio.NewReader(buffered))
			_ = to.Close()
		}()
		_, _ = io.Copy(conn, to)
		_ = conn.Close()
	})
}

// A failure of the proxy is no attempt; a failure of the receiver is one.
func TestSender_TellsProxyFailuresFromReceiverFailures(t *testing.T) {
	secure := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(secure.Close)
	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate())
	plain := "http://127.0.0.1:" + receiver(t, "127.0.0.1:0", func(http.ResponseWriter, *http.Request) {})
	const nobody = "http://127.0.0.1:1"
	for _, c := range []struct {
		proxy, url string
		reason     fault.Reason
		noAttempt  bool
	}{
		{proxy(t, 200), secure.URL, "", false},
		{proxy(t, 200), plain, "", false},
		{proxy(t, 200), "https://127.0.0.1:1/", fault.Connection, false},
		{proxy(t, 502), secure.URL, fault.Connection, false},
		{proxy(t, 503), secure.URL, fault.Connection, false},
		{proxy(t, 504), secure.URL, fault.Connection, false},
		{proxy(t, 407), secure.URL, fault.ProxyError, true},
		{proxy(t, 403), secure.URL, fault.ProxyError, true},
		{proxy(t, 500), secure.URL, fault.ProxyError, true},
		{proxy(t, 407), plain, fault.ProxyError, true},
		{nobody, secure.URL, fault.ProxyError, true},
		{nobody, plain, fault.ProxyError, true},
		{proxy(t, 200), "https://10.0.0.1/", fault.Forbidden, false},
		{proxy(t, 200), "https://[64:ff9b::7f00:1]/", fault.Forbidden, false},
		{proxy(t, 200), "https://2130706433/", fault.Forbidden, false},
		{proxy(t, 200), "https://169。254。169。254/", fault.Forbidden, false},
		{proxy(t, 200), "https://①⑥⑨.②⑤④.①⑥⑨.②⑤④/", fault.Forbidden, false},
		{proxy(t, 200), "https://１０.０.０.１/", fault.Forbidden, false},
		{proxy(t, 200), "https://２１３０７０６４３３/", fault.Forbidden, false},
		{proxy(t, 200), "https://\xff.example/", fault.Forbidden, false},
		{proxy(t, 200), "http://shop.example/", fault.Forbidden, false},
	} {
		s := sender(t, Config{AllowCIDRs: loopback, Proxy: Secret(c.proxy)}, nil)
		s.secure.Transport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: roots}
		reply := s.Post(t.Context(), toDeliver(c.url))
		if reply.Reason != string(c.reason) || reply.NoAttempt != c.noAttempt || strings.Contains(fmt.Sprint(reply), "secret-of-the-proxy") {
			t.Errorf("%s by %s: got %+v", c.url, c.proxy, reply)
		}
	}
}

// The address of the proxy is not checked.
func TestSender_AllowsAProxyAtAPrivateAddress(t *testing.T) {
	s := sender(t, Config{Proxy: Secret(proxy(t, 407))}, nil)
	if reply := s.Post(t.Context(), toDeliver("https://shop.example/")); reply.Reason != string(fault.ProxyError) || !strings.Contains(reply.Message, "407") {
		t.Errorf("got %+v", reply)
	}
}

func TestConfig_NamesEachProblem(t *testing.T) {
	good := Config{Secret: testSecret + " " + otherSecret, Hosts: []string{"shop.example", "*", "127.0.0.1", "::1", "bücher.example"},
		AllowCIDRs: []string{"127.0.0.0/8", "fd00::/8"}, Proxy: "http://user:pass@proxy.example:3128"}
	if problems := good.Validate(); len(problems) > 0 {
		t.Errorf("got %v", problems)
	}
	bad := Config{
		Secret: "secret-1 whsec_c2hvcnQ= whsec_?? " + testSecret, Hosts: []string{"https://shop.example", "shop.example:443", "*.shop.example", "", "2130706433"},
		AllowCIDRs: []string{"127.0.0.1", "10/8"}, Proxy: "https://user:secret-2@proxy.example",
	}
	problems := fmt.Sprint(bad.Validate())
	for _, want := range []string{
		"secret 1 does not start with whsec_", "secret 2 has 5 bytes after base64, must have 24 to 64", "secret 3 is not whsec_ and base64",
		`HOSTS holds "https://shop.example"`, `HOSTS holds "shop.example:443"`, `HOSTS holds "*.shop.example"`, `HOSTS holds ""`, `HOSTS holds "2130706433"`,
		`CIDRS holds "127.0.0.1"`, `CIDRS holds "10/8"`, "KYCLINK_CALLBACK_PROXY is no HTTP proxy's address",
	} {
		if !strings.Contains(problems, want) {
			t.Errorf("%s does not say: %s", problems, want)
		}
	}
	encoded, _ := json.Marshal(bad)
	shown := fmt.Sprintf("%s %+v %#v %s", problems, bad, bad, encoded)
	for _, secret := range []string{"secret-1", "c2hvcnQ", "??", testSecret, "secret-2"} {
		if strings.Contains(shown, secret) {
			t.Errorf("a secret is shown: %s", secret)
		}
	}
}
