//go:build long

package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/tasks"
)

// skewed builds kyclink with a clock that KYCLINK_TEST_SKEW shifts. It replaces time.Now
// at compile time, because a process cannot otherwise have a clock that differs from the
// machine's.
var skewed = sync.OnceValues(func() (string, error) {
	dir := filepath.Dir(binary)
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", err
	}
	src := filepath.Join(strings.TrimSpace(string(root)), "src", "time")
	now, err := os.ReadFile(filepath.Join(src, "time.go"))
	if err != nil {
		return "", err
	}
	const read = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"
	if strings.Count(string(now), read) != 1 {
		return "", os.ErrInvalid // this Go version reads the clock differently: adapt the text above
	}
	files := map[string]string{
		"time.go": strings.Replace(string(now), read, read+"\tsec += skew\n", 1),
		"skew.go": `package time

import "syscall"

var skew = func() int64 {
	text, _ := syscall.Getenv("KYCLINK_TEST_SKEW")
	n, sign := int64(0), int64(1)
	for _, c := range text {
		if c == '-' {
			sign = -1
		} else {
			n = 10*n + int64(c-'0')
		}
	}
	return sign * n
}()
`,
	}
	replace := map[string]string{}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return "", err
		}
		replace[filepath.Join(src, name)] = path
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, overlay, 0o600); err != nil {
		return "", err
	}
	out := filepath.Join(dir, "kyclink-skewed")
	return out, fixture.Compile(exec.Command("go", "build", "-overlay", file, "-o", out, "."))
})

// startSkewed is start with a clock that is shifted by a number of seconds.
func startSkewed(t testing.TB, seconds string, settings []string, args ...string) *process {
	t.Helper()
	path, err := skewed()
	if err != nil {
		t.Fatal(err)
	}
	return startBinary(t, path, append(slices.Clone(settings), "KYCLINK_TEST_SKEW="+seconds), args...)
}

// A worker whose clock is wrong by ten minutes behaves like the others, because every
// decision uses the clock of Redis.
func TestWorker_IgnoresItsOwnClock(t *testing.T) {
	if _, err := skewed(); err != nil {
		t.Fatalf("build kyclink on %s with another clock: %v", runtime.Version(), err)
	}
	for name, clocks := range map[string][]string{
		"ahead, alone":              {"600"},
		"behind, alone":             {"-600"},
		"ahead, beside others":      {"0", "600", "0"},
		"behind, beside others":     {"0", "-600", "0"},
		"both, and nobody is right": {"600", "-600"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// Calls last longer than a pause, and all of them longer than the minute
			// after which asynq recovers tasks whose lease is over by the clock of the
			// recovering process.
			const n, perSecond, burst = 320, 4, 5
			server := redistest.Start(t)
			// Some calls get a 503, so that the workers must pause.
			sim, setting := upstream(t, `{"latency":"9s","faults":[{"fault":"http_503","probability":0.02}],"max_faults_per_id":2}`)
			settings := []string{setting, "KYCLINK_REDIS_URL=" + server.URL, "FACEKI_RATE=4/s", "FACEKI_BURST=5", "KYCLINK_CONCURRENCY=60"}
			client := enqueue(t, server.Client(t), n)
			begun := time.Now()
			var fleet []*process
			for _, seconds := range clocks {
				fleet = append(fleet, startSkewed(t, seconds, settings, "worker", "--simulate"))
			}
			fixture.Eventually(t, "the first half is created", func() bool { return sim.State().Links > n/3 })
			fixture.Eventually(t, "all are created", func() bool { return allCreated(links(t, client, n)) })
			took := time.Since(begun)
			for _, window := range []time.Duration{200 * time.Millisecond, time.Second, 5 * time.Second} {
				if over := excess(sim.Calls(0, 10_000).Calls, perSecond, burst, window); over > 0 {
					t.Errorf("a window of %v has %.1f calls too many", window, over)
				}
			}
			got := sim.State()
			if got.Links != n || got.SeveralLinks != 0 || got.TokenRequests != 1 {
				t.Errorf("%d links, %d with several, %d token requests for %d requests", got.Links, got.SeveralLinks, got.TokenRequests, n)
			}
			for _, l := range links(t, client, n) {
				if l.Status != tasks.Created || l.PossibleDuplicates != 0 || l.AcceptedAt.After(time.Now().Add(time.Minute)) ||
					l.EndedAt.After(time.Now().Add(time.Minute)) || l.EndedAt.Before(begun.Add(-time.Minute)) {
					t.Errorf("%+v", l)
					break
				}
			}
			t.Logf("%d requests took %v, %d calls", n, took.Round(100*time.Millisecond), got.LinkCalls)
			for _, w := range fleet {
				w.signal(syscall.SIGTERM)
				if code := w.exit(); code != 0 {
					t.Errorf("exit code %d:\n%s", code, w.stderr.String())
				}
			}
		})
	}
}
