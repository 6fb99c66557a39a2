package main

import (
	"bytes"
	"os"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/fixture"
)

func TestMain(m *testing.M) { fixture.Alone(m, foreignGoroutines()...) }

// expectNoViolation runs the suite with cfg, completed by what all tests have in common. It
// keeps data and logs if there is a violation.
func expectNoViolation(t *testing.T, cfg config) {
	t.Helper()
	if cfg.kyclink == "" {
		cfg.kyclink = fixture.ProgramFor(t, fixture.Build{Failpoints: true, CallbackPace: 20})
	}
	var err error
	if cfg.dir, err = os.MkdirTemp("", "kyclink-chaos-"); err != nil { //nolint:usetesting // see above
		t.Fatal(err)
	}
	var out bytes.Buffer
	cfg.drain, cfg.redis, cfg.workers, cfg.rate, cfg.burst, cfg.notes = 4*time.Minute, "single", 2, 40, 10, &out
	violations, err := run(t.Context(), cfg, &out)
	if err != nil || len(violations) > 0 {
		t.Fatalf("error %v; violations: %q; data and logs are in %s\n%s", err, violations, cfg.dir, out.String())
	}
	if err := os.RemoveAll(cfg.dir); err != nil {
		t.Error(err)
	}
	t.Log(out.String())
}

// TestSuite_FindsNoViolationInAShortRun injects one fault of most groups, including the
// sudden end of a worker and of Redis. The seed is fixed, so that a failure is repeatable.
func TestSuite_FindsNoViolationInAShortRun(t *testing.T) {
	expectNoViolation(t, config{seed: 80185, duration: 7 * time.Second, gap: 400 * time.Millisecond, pace: 5, only: []string{
		"kill", "at-called", "term", "redis-kill", "redis-clock", "redis-oom", "redis-cut", "faceki-http_503", "faceki-reset_after",
		"faceki-truncated", "faceki-cut", "receiver-lost", "receiver-500", "serve-kill", "serve-cut", "import-killed-full",
		"intake-stolen", "intake-group-gone",
	}})
}

func TestPlan_DependsOnlyOnItsSeed(t *testing.T) {
	kinds := (&fleet{}).kinds(true)
	text := func(seed uint64) (text string) {
		for _, o := range plan(seed, kinds, 5*time.Minute, time.Second) {
			text += o.String()
		}
		return text
	}
	first, same, other := text(1), text(1), text(2)
	if first != same || first == other {
		t.Errorf("plans of the same seed are equal: %v, want true; of different seeds: %v, want false", first == same, first == other)
	}
}
