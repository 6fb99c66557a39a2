package main

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/kyclink/kyclink/tasks"
)

// A ping has the form of a real callback and is restricted to the same addresses.
func TestCallbacksTest_ShowsWhatTheReceiverAnswers(t *testing.T) {
	t.Parallel()
	var status, asked atomic.Int64
	event := make(chan tasks.Event, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		body, _ := io.ReadAll(r.Body)
		if e, err := tasks.VerifyCallback([]string{newSecret}, r.Header, body, nil); err == nil {
			event <- e
		}
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(int(status.Load()))
		_, _ = io.WriteString(w, "at your service\x1b[2J")
	}))
	t.Cleanup(server.Close)
	settings := []string{"KYCLINK_CALLBACK_HOSTS=127.0.0.1", "KYCLINK_CALLBACK_ALLOW_CIDRS=127.0.0.0/8", "KYCLINK_CALLBACK_SECRET=" + newSecret}
	expect := func(code int, want string, settings []string, args ...string) string {
		t.Helper()
		got, stdout, stderr := kyclink(t, settings, append([]string{"callbacks", "test"}, args...)...)
		if got != code || !strings.Contains(stdout+stderr, want) || strings.Contains(stdout+stderr, "\x1b[2J") || strings.Contains(stderr, newSecret) {
			t.Errorf("%v: exit code %d, want %d and %q\n%s%s", args, got, code, want, stdout, stderr)
		}
		return stdout
	}
	url := server.URL + "/hooks?key=known"
	status.Store(204)
	expect(0, "answered with HTTP 204 after ", settings, url)
	if e := <-event; e.Type != "ping" || e.ID == "" || e.Timestamp.IsZero() || e.Data.ApplicationID != "" {
		t.Errorf("the receiver got %+v", e)
	}
	var p pingResult
	if err := json.Unmarshal([]byte(expect(0, "", settings, url, "--json")), &p); err != nil || !p.Delivered || p.Status != 204 {
		t.Errorf("%v: %+v", err, p)
	}
	status.Store(200)
	expect(0, "body: at your service", settings, url)
	status.Store(404)
	expect(1, "rejected: the receiver answered with HTTP 404; a worker would retry it\nbody: at your service", settings, url)
	status.Store(410)
	expect(1, "gone: the receiver wants no more callbacks at this URL (HTTP 410); a worker would give it up at once", settings, url)
	status.Store(302)
	before := asked.Load()
	expect(1, "redirected: the receiver answered with a redirect (HTTP 302), and kyclink follows none", settings, url)
	if n := asked.Load() - before; n != 1 {
		t.Errorf("a redirect was asked for %d times", n)
	}
	if err := json.Unmarshal([]byte(expect(1, "", settings, url, "--json")), &p); err != nil || p.Delivered || p.Reason != "redirected" {
		t.Errorf("%v: %+v", err, p)
	}
	expect(1, "must not go to 127.0.0.2, which is not in KYCLINK_CALLBACK_HOSTS", settings, "http://127.0.0.2:1/")
	expect(1, "10.0.0.1 is private or special", append(settings[1:], "KYCLINK_CALLBACK_HOSTS=*"), "https://10.0.0.1/")
	expect(64, "give the URL of a receiver", settings, "shop")
	for _, refused := range []string{"https://127.0.0.1:65536/", "https://127.0.0.1:0/", "ftp://127.0.0.1/", "https://user:pw@127.0.0.1/"} {
		expect(64, "callback_url: ", settings, refused)
	}
	expect(78, "KYCLINK_CALLBACK_HOSTS is missing", settings[1:], url)
	expect(78, "KYCLINK_CALLBACK_SECRET is missing", settings[:2], url)
}

func TestCallbacksSecret_PrintsANewSecret(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 2 {
		_, stdout, stderr := kyclink(t, nil, "callbacks", "secret")
		secret := strings.TrimSuffix(stdout, "\n")
		key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
		if err != nil || len(key) != 32 || !strings.HasPrefix(secret, "whsec_") || stderr != "" {
			t.Errorf("%v: %d bytes; %s", err, len(key), stderr)
		}
		seen[secret] = true
	}
	if len(seen) != 2 {
		t.Error("twice the same secret")
	}
	_, stdout, _ := kyclink(t, nil, "callbacks", "secret", "--json")
	var made struct{ Secret string }
	if err := json.Unmarshal([]byte(stdout), &made); err != nil || !strings.HasPrefix(made.Secret, "whsec_") {
		t.Errorf("%v: %s", err, stdout)
	}
}
