package main

import (
	"bytes"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kyclink/kyclink/internal/fixture"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, ownGoroutines()...) }

// TestSuite_FindsNoViolationInAShortRun breaks things for a quarter of a minute. The seed is fixed: what
// a seed found stays found.
func TestSuite_FindsNoViolationInAShortRun(t *testing.T) {
	program := fixture.ProgramFor(t, fixture.Build{Failpoints: true, CallbackPace: 20})
	dir, err := os.MkdirTemp("", "kyclink-chaos-") //nolint:usetesting // kept where something is wrong
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	wrong, err := run(t.Context(), config{
		seed: 42, duration: 15 * time.Second, drain: 4 * time.Minute, gap: time.Second, redis: "single",
		kyclink: program, dir: dir, workers: 2, rate: 40, burst: 10, notes: &out,
	}, &out)
	if err != nil || len(wrong) > 0 {
		t.Fatalf("%v; wrong: %q; Redis' files and the workers' logs are in %s\n%s", err, wrong, dir, out.String())
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Error(err)
	}
}

// TestPlan_FollowsFromItsSeed: a seed makes the same schedule each time, and another seed another.
func TestPlan_FollowsFromItsSeed(t *testing.T) {
	kinds := (&fleet{}).kinds(true)
	text := func(seed uint64) (text string) {
		for _, o := range plan(seed, kinds, 5*time.Minute, time.Second) {
			text += o.String()
		}
		return text
	}
	first, same, other := text(1), text(1), text(2)
	if first != same || first == other {
		t.Errorf("two plans of one seed are the same: %v; those of two seeds: %v", first == same, first == other)
	}
}
