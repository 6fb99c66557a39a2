package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// With wrong credentials, a run without any link ends at once with FaceKi's answer, not
// after the patience of half an hour.
func TestRun_StopsOnWrongCredentials(t *testing.T) {
	t.Parallel()
	sim, setting := upstream(t, `{"token_fault":"http_401"}`)
	for redis, settings := range backends(t, setting) {
		dir := t.TempDir()
		in, out := write(t, filepath.Join(dir, "in.csv"), "application_id\n"+redis+"-1\n"), filepath.Join(dir, "links.csv")
		code, _, stderr := kyclink(t, settings, "run", in, "-o", out, "--simulate")
		if code != 1 || !strings.Contains(stderr, "HTTP 401") || !strings.Contains(stderr, "check FACEKI_CLIENT_ID and FACEKI_CLIENT_SECRET, then run the same command again") {
			t.Errorf("%s Redis: exit code %d:\n%s", redis, code, stderr)
		}
		if strings.Contains(stderr, `"level"`) {
			t.Errorf("%s Redis: it logs\n%s", redis, stderr)
		}
		if _, err := os.Stat(out); err == nil {
			t.Errorf("%s Redis: OUT was written", redis)
		}
		script := sim.Script()
		fault := script.TokenFault
		script.TokenFault = nil
		if err := sim.SetScript(script); err != nil {
			t.Fatal(err)
		}
		if redis == "embedded" { // with the real one, the gate waits for its next probe
			if code, _, stderr := kyclink(t, settings, "run", in, "-o", out, "--simulate"); code != 0 {
				t.Errorf("%s Redis, with the right ones: exit code %d:\n%s", redis, code, stderr)
			}
		}
		script.TokenFault = fault
		if err := sim.SetScript(script); err != nil {
			t.Fatal(err)
		}
	}
}

// A run whose patience is over prints the reason for the wait.
func TestRun_SaysWhatItWaitsFor(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	_, setting := upstream(t, `{"outage":"http_503"}`)
	settings := []string{setting, "KYCLINK_REDIS_URL=" + server.URL}
	dir := t.TempDir()
	in := write(t, filepath.Join(dir, "in.csv"), people(10))
	code, _, stderr := kyclink(t, settings, "run", in, "-o", filepath.Join(dir, "a.csv"), "--simulate", "--patience=12s")
	if code != 3 || !strings.Contains(stderr, "\nkyclink: no link is created now: FaceKi has been failing since ") ||
		!strings.Contains(stderr, "no link was created for 12s (--patience): FaceKi has been failing since ") || !strings.Contains(stderr, "outage") {
		t.Errorf("during an outage: exit code %d:\n%s", code, stderr)
	}
	if n := strings.Count(stderr, "no link is created now"); n != 1 || strings.Contains(stderr, `"level"`) {
		t.Errorf("it prints %d times that no link is created:\n%s", n, stderr)
	}
	expecter(t, settings)(0, "is paused", "", "account", "pause")
	code, _, stderr = kyclink(t, settings, "run", in, "-o", filepath.Join(dir, "a.csv"), "--simulate", "--patience=3s")
	if code != 3 || !strings.Contains(stderr, "(--patience): An operator paused the account") {
		t.Errorf("while the account is paused: exit code %d:\n%s", code, stderr)
	}
}
