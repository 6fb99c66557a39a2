package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/redistest"
)

// Health asks the process that has the same setting, whatever proxy the environment names,
// and without a connection to Redis.
func TestHealthCommand_AsksTheProcess(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	_, setting := upstream(t, `{}`)
	w := start(t, []string{setting, "KYCLINK_REDIS_URL=" + server.URL}, "worker", "--simulate")
	_, port, err := net.SplitHostPort(strings.TrimPrefix(w.opsURL(), "http://"))
	fixture.Must(t, err)
	settings := []string{"KYCLINK_OPS_LISTEN=127.0.0.1:" + port, "HTTP_PROXY=http://127.0.0.1:1", "http_proxy=http://127.0.0.1:1"}
	fixture.Eventually(t, "it is healthy", func() bool {
		code, stdout, _ := kyclink(t, settings, "health")
		return code == 0 && stdout == "healthy\n"
	})
	fixture.Must(t, server.Client(t).ConfigSet(t.Context(), "maxmemory", "1").Err())
	fixture.Eventually(t, "it is not", func() bool {
		code, stdout, stderr := kyclink(t, settings, "health")
		return code == 1 && stdout == "" && strings.HasPrefix(stderr, "kyclink: unhealthy: ") && strings.Contains(stderr, "(OOM)") && strings.Count(stderr, "\n") == 1
	})
	w.kill()
	if code, _, stderr := kyclink(t, settings, "health"); code != 1 || !strings.Contains(stderr, "unhealthy: no answer from 127.0.0.1:"+port) {
		t.Errorf("of a dead process: exit code %d:\n%s", code, stderr)
	}
}

func TestHealthCommand_FindsTheAddress(t *testing.T) {
	t.Parallel()
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/readyz":
			w.WriteHeader(http.StatusServiceUnavailable)
		case "/moved":
			http.Redirect(w, r, "/", http.StatusFound)
		}
	}))
	t.Cleanup(other.Close)
	_, port, err := net.SplitHostPort(other.Listener.Addr().String())
	fixture.Must(t, err)
	for _, tt := range []struct {
		listen string
		args   []string
		code   int
		says   string
	}{
		{":" + port, nil, 1, "unhealthy: 503"},
		{"0.0.0.0:" + port, nil, 1, "unhealthy: 503"},
		{"127.0.0.1:" + port, nil, 1, "unhealthy: 503"},
		{"127.0.0.1:0", nil, 78, "KYCLINK_OPS_LISTEN has port 0"},
		{port, nil, 78, "KYCLINK_OPS_LISTEN is"},
		{"127.0.0.1:0", []string{"--url", other.URL}, 0, "healthy"},
		{"127.0.0.1:0", []string{"--url", other.URL + "/moved"}, 1, "unhealthy: 302"},
		{"127.0.0.1:0", []string{"--url", "127.0.0.1:" + port}, 64, "--url must be a URL"},
		{"127.0.0.1:0", []string{"--url", "http://user:hunter2@127.0.0.1:1/"}, 1, "no answer from 127.0.0.1:1"},
	} {
		code, stdout, stderr := kyclink(t, []string{"KYCLINK_OPS_LISTEN=" + tt.listen}, append([]string{"health"}, tt.args...)...)
		if code != tt.code || !strings.Contains(stdout+stderr, tt.says) || strings.Contains(stderr, "hunter2") {
			t.Errorf("at %s %v: exit code %d, want %d with %q:\n%s%s", tt.listen, tt.args, code, tt.code, tt.says, stdout, stderr)
		}
	}
}
