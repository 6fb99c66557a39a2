package main

import (
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/config"
	"github.com/kyclink/kyclink/internal/input"
	"github.com/kyclink/kyclink/tasks"
)

// When the wait ends, the state at that time is returned, not the state before the wait.
func TestRequest_ShowsTheLatestStateWhenItsWaitEnds(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	client := tasks.NewClient(server.Client(t), tasks.Config{})
	req := tasks.Request{ApplicationID: "A-1"}
	now, err := client.Enqueue(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	before := now
	before.Status = tasks.Waiting
	got, err := waitFor(t.Context(), client, req, before, 5*time.Second)
	if err != nil || got.Status != tasks.Queued {
		t.Errorf("%s is %s, %v; want %s", got.ApplicationID, got.Status, err, tasks.Queued)
	}
	got, err = waitFor(t.Context(), client, req, before, time.Nanosecond) // too short for a read
	if err != nil || got.ApplicationID != "A-1" || got.Status != tasks.Waiting {
		t.Errorf("%q is %s, %v; want %s as before", got.ApplicationID, got.Status, err, tasks.Waiting)
	}
}

// A producer ignores wrong settings that only a worker uses.
func TestSettings_OfWorkersAreIgnoredByProducers(t *testing.T) {
	t.Parallel()
	settings := []string{
		"KYCLINK_REDIS_URL=" + newRedis(t).URL,
		"FACEKI_TIMEOUT=abc", "KYCLINK_CONCURRENCY=many", "FACEKI_CLIENT_SECRET_FILE=/nowhere/secret", "FACEKI_BURST=",
	}
	for _, args := range [][]string{
		{"request", "--application-id", "A-1"}, {"show", "A-1"}, {"account", "status"},
	} {
		if code, _, stderr := kyclink(t, settings, args...); code != 0 {
			t.Errorf("%v: exit code %d\n%s", args, code, stderr)
		}
	}
}

func TestExitCodes_FollowTheOutcome(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("whatever"), 1},
		{redis.ErrClosed, 1},
		{&codeError{code: exitNotCreated}, 2},
		{&codeError{exitWaiting, &config.Error{}}, 3}, // the outermost error decides
		{&input.Error{}, 65},
		{&config.Error{}, 78},
		{&signalError{syscall.SIGINT}, 130},
		{&signalError{syscall.SIGTERM}, 143},
	} {
		err := tt.err
		if err != nil {
			err = fmt.Errorf("in some context: %w", err)
		}
		if got := exitCode(err); got != tt.want {
			t.Errorf("%T: exit code %d, want %d", tt.err, got, tt.want)
		}
	}
}
