package main

import (
	"context"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/faceki/simulator"
)

func open(t *testing.T) *rig {
	t.Helper()
	b := &suite{notes: io.Discard}
	r, err := b.open(simulator.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.close)
	return r
}

func shell(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRig_FailsWhenAProcessEndsUnexpectedly(t *testing.T) {
	r := open(t)
	if err := r.run(shell(t), nil, "-c", "echo what went wrong; exit 3"); err != nil {
		t.Fatal(err)
	}
	err := r.waitUntil(t.Context(), "never", func() bool { return false })
	if err == nil || !strings.Contains(err.Error(), "what went wrong") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("got error %v, want the exit status and the log", err)
	}
}

func TestRig_ReportsProgressWhenAWaitTimesOut(t *testing.T) {
	r := open(t)
	why := errors.New("timeout")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 30*time.Millisecond, why)
	defer cancel()
	if err := r.waitForCalls(ctx, 1); !errors.Is(err, why) || !strings.Contains(err.Error(), "0 calls and 0 links so far") {
		t.Errorf("got error %v, want the progress and the cause", err)
	}
}

func TestRig_StopsEveryProcessWhenClosed(t *testing.T) {
	r := open(t)
	for range 3 {
		if err := r.run(shell(t), nil, "-c", "exec sleep 60"); err != nil {
			t.Fatal(err)
		}
	}
	r.close()
	for _, p := range r.processes {
		if p.State() == nil {
			t.Errorf("process %d is still running", p.PID())
		}
	}
}

func TestRig_CountsEventsOnce(t *testing.T) {
	r := open(t)
	add := func(kind, data string) {
		t.Helper()
		if err := r.rdb.XAdd(t.Context(), &redis.XAddArgs{Stream: results, Values: []string{"type", kind, "data", data}}).Err(); err != nil {
			t.Fatal(err)
		}
	}
	add("link.created", "")
	add("link.failed", "the first")
	for range 2 {
		if got, err := r.countEvents(t.Context()); err != nil || got != (outcomes{1, 1, "the first"}) {
			t.Errorf("got %+v, error %v", got, err)
		}
	}
	add("link.failed", "the second")
	add("link.held", "")
	if got, err := r.countEvents(t.Context()); err != nil || got != (outcomes{1, 2, "the first"}) {
		t.Errorf("got %+v, error %v", got, err)
	}
}
