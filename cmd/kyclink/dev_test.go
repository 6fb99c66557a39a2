package main

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/kyclink/kyclink/internal/fixture"
)

// trial is a running kyclink dev.
type trial struct {
	serving
	control string // the simulator's URL
}

func startDev(t *testing.T, settings []string, args ...string) trial {
	t.Helper()
	d := trial{serving: serving{process: start(t, append([]string{"KYCLINK_LISTEN=127.0.0.1:0"}, settings...), append([]string{"dev"}, args...)...)}}
	fixture.Eventually(t, "it says how to stop it", func() bool { return strings.Contains(d.stdout.String(), "Ctrl-C") || over(d.process) })
	text := d.stdout.String()
	for _, part := range []struct {
		pattern string
		to      *string
	}{
		{`console +http://([^/]+)/`, &d.addr}, {`API key +(\S+)`, &d.key}, {`PUT (http://[^/]+)/_simulator`, &d.control},
	} {
		m := regexp.MustCompile(part.pattern).FindStringSubmatch(text)
		if m == nil {
			t.Fatalf("no %s in:\n%s%s", part.pattern, text, d.stderr.String())
		}
		*part.to = m[1]
	}
	return d
}

// The printed commands work as they are, nothing is logged, and the data is there again
// after a stop. Settings of real services are not used.
func TestDev_WorksAsItsFirstScreenSays(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	d := startDev(t, []string{"KYCLINK_REDIS_URL=redis://:hunter2@127.0.0.1:1/0", "FACEKI_CLIENT_SECRET=hunter2"}, "--data", data, "--sample")
	commands := regexp.MustCompile(`(?m)^  ((?:curl|printf) .*)$`).FindAllStringSubmatch(d.stdout.String(), -1)
	wants := []string{`"status":"created"`, `"url":"https://simulator.invalid/`, `"accepted":2`, `"faults":"outage"`}
	if len(commands) != len(wants) {
		t.Fatalf("%d commands:\n%s", len(commands), d.stdout.String())
	}
	for i, want := range wants {
		send := func() (status int, body string) {
			resp, err := http.DefaultClient.Do(printedRequest(t, commands[i][1]))
			fixture.Must(t, err)
			text, err := io.ReadAll(resp.Body)
			fixture.Must(t, err)
			fixture.Must(t, resp.Body.Close())
			return resp.StatusCode, string(text)
		}
		status, out := send()
		if i == 0 && status == http.StatusAccepted { // it has waited for 10 s, which is short on a busy machine
			fixture.Eventually(t, "the link is created", func() bool { status, out = send(); return status != http.StatusAccepted })
		}
		if status >= http.StatusBadRequest || !strings.Contains(out, want) {
			t.Errorf("%s: %d, want %s in:\n%s", commands[i][1], status, want, out)
		}
	}
	if status, page := look(t, "http://"+d.addr+"/"); status != http.StatusOK || !strings.Contains(page, "API key") {
		t.Errorf("the console: %d", status)
	}
	fixture.Eventually(t, "the gate closes", func() bool {
		_, account := d.ask(http.DefaultClient, "GET", "http://"+d.addr+"/v1/account", "")
		return strings.Contains(account, `"state":"closed","reason":"outage"`)
	})
	d.signal(syscall.SIGINT)
	if code := d.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if log := d.stderr.String(); strings.Count(log, "\n") != 1 || !strings.Contains(log, "ignores KYCLINK_REDIS_URL, FACEKI_CLIENT_SECRET") || strings.Contains(log, "hunter2") {
		t.Errorf("it printed:\n%s", log)
	}

	for _, key := range savedKeys(t, filepath.Join(data, "redis.json.gz")) {
		if strings.Contains(key, ":token:") {
			t.Errorf("%s is kept, and the simulator of the next process refuses it", key)
		}
	}

	if screen := d.stdout.String(); !strings.Contains(screen, "saved in "+data+" when this ends") || !strings.Contains(screen, "a second Ctrl-C now loses what was not saved") ||
		strings.Contains(screen, "traces") {
		t.Errorf("it printed:\n%s", screen)
	}

	collector := fixture.NewCollector(t, nil)
	again := startDev(t, []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + collector.URL}, "--data", data)
	for _, want := range []string{"2,003 requests and 2 batches from " + data, "traces   sent to " + strings.TrimPrefix(collector.URL, "http://")} {
		if !strings.Contains(again.stdout.String(), want) {
			t.Errorf("the second time, it does not print %q:\n%s", want, again.stdout.String())
		}
	}
	if again.key != d.key {
		t.Error("the API key has changed")
	}
	for path, want := range map[string]string{"links/A-1001": `"status":"created"`, "links/SPRING-2000": `"batch":"spring"`} {
		if status, body := again.ask(http.DefaultClient, "GET", "http://"+again.addr+"/v1/"+path, ""); status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s after a restart: %d %s", path, status, body)
		}
	}
	if code, _, stderr := kyclink(t, nil, "dev", "--data", data); code != 1 || !strings.Contains(stderr, "another process uses") {
		t.Errorf("a second process with the same data: exit code %d:\n%s", code, stderr)
	}
}

// printedRequest returns the request that a printed command sends: curl, or printf and curl.
func printedRequest(t *testing.T, line string) *http.Request {
	t.Helper()
	method, body, at, header := http.MethodGet, "", "", http.Header{}
	if text, rest, piped := strings.Cut(line, " | "); piped {
		line, body = rest, strings.ReplaceAll(words(text)[1], `\n`, "\n")
	}
	args := words(line)[1:]
	for len(args) > 0 {
		option := args[0]
		args = args[1:]
		switch option {
		case "-sS":
			continue
		case "-X", "-H", "-d", "--data-binary":
		default:
			at = option
			continue
		}
		value := args[0]
		args = args[1:]
		switch option {
		case "-X":
			method = value
		case "-H":
			name, text, _ := strings.Cut(value, ": ")
			header.Set(name, text)
		default:
			if method = http.MethodPost; value != "@-" {
				body = value
			}
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), method, at, strings.NewReader(body))
	fixture.Must(t, err)
	req.Header = header
	return req
}

// savedKeys returns the keys of the Redis that was saved to a file.
func savedKeys(t *testing.T, path string) []string {
	t.Helper()
	compressed, err := gzip.NewReader(strings.NewReader(read(t, path)))
	fixture.Must(t, err)
	var saved struct {
		Values []struct {
			Key []byte `json:"key"`
		} `json:"values"`
	}
	fixture.Must(t, json.NewDecoder(compressed).Decode(&saved))
	keys := make([]string, len(saved.Values))
	for i, v := range saved.Values {
		keys[i] = string(v.Key)
	}
	if len(keys) == 0 {
		t.Errorf("%s has no keys", path)
	}
	return keys
}

func TestDev_RefusesWrongUse(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args string
		says string
	}{
		{"--faults=on", "use off, some, outage or no-credit"},
		{"--faults outage", "write --faults=outage"},
		{"now", `unexpected argument "now"`},
	} {
		if code, _, stderr := kyclink(t, nil, append([]string{"dev"}, strings.Fields(tt.args)...)...); code != exitUsage || !strings.Contains(stderr, tt.says) {
			t.Errorf("%s: exit code %d, want %q in:\n%s", tt.args, code, tt.says, stderr)
		}
	}
	data := t.TempDir()
	write(t, filepath.Join(data, "redis.json.gz"), "nonsense")
	if code, _, stderr := kyclink(t, []string{"KYCLINK_LISTEN=127.0.0.1:0"}, "dev", "--data", data); code != 1 || !strings.Contains(stderr, "remove it to begin without its data") {
		t.Errorf("with broken data: exit code %d:\n%s", code, stderr)
	}
	if got := read(t, filepath.Join(data, "redis.json.gz")); got != "nonsense" {
		t.Error("the broken data was replaced")
	}
}

// stopWriter calls stop when the first screen is complete.
type stopWriter struct {
	capture
	stop context.CancelFunc
}

func (w *stopWriter) Write(p []byte) (int, error) {
	n, err := w.capture.Write(p)
	if strings.Contains(w.String(), "Ctrl-C") {
		w.stop()
	}
	return n, err
}

// It runs in the process of the test, alone because it sets variables.
func TestDev_EndsAllGoroutines(t *testing.T) {
	t.Setenv("KYCLINK_LISTEN", "127.0.0.1:0")
	t.Setenv("KYCLINK_OPS_LISTEN", "127.0.0.1:0")
	earlier := goleak.IgnoreCurrent()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	root := newRoot()
	out := &stopWriter{stop: stop}
	root.SetOut(out)
	root.SetArgs([]string{"dev", "--sample", "--data", t.TempDir()})
	if err := root.ExecuteContext(ctx); err != nil || !strings.Contains(out.String(), "Stopped; the data is in") {
		t.Errorf("%v, and it printed:\n%s", err, out.String())
	}
	if err := fixture.FindLeaks(earlier); err != nil {
		t.Error(err)
	}
}
