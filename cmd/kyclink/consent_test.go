package main

import (
	"bytes"
	"context"
	"io"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/cobra"

	"github.com/kyclink/kyclink/tasks"
)

func TestConsent_IsRequiredWithoutATerminal(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	settings := []string{"KYCLINK_REDIS_URL=" + server.URL}
	importBatch(t, server.Client(t), "spring", 3)
	for _, args := range [][]string{
		{"batch", "cancel", "spring"}, {"forget", "--batch", "spring"}, {"forget", "P-0001"}, {"held", "drop", "--all"}, {"held", "drop", "P-0001"},
	} {
		code, _, stderr := kyclink(t, settings, args...)
		if code != exitUsage || !strings.Contains(stderr, "cannot be undone, and there is no terminal to ask on; give --yes") {
			t.Errorf("%v: exit code %d: %s", args, code, stderr)
		}
	}
	for _, args := range [][]string{{"forget", "--batch", "spring", "--dry-run"}, {"held", "drop", "--all", "--dry-run"}} {
		if code, _, stderr := kyclink(t, settings, args...); code != 0 {
			t.Errorf("%v: exit code %d: %s", args, code, stderr)
		}
	}
	link, err := tasks.NewClient(server.Client(t), tasks.Config{}).Get(t.Context(), "spring-00001")
	if err != nil || link.Status != tasks.Waiting {
		t.Errorf("%v: %+v", err, link)
	}
}

func TestConfirm_AsksBeforeAnythingIsLost(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]bool{"y\n": true, " YES \n": true, "\n": false, "": false, "n\n": false, "yesterday\n": false} {
		cmd := &cobra.Command{}
		var asked bytes.Buffer
		cmd.SetContext(t.Context())
		cmd.SetIn(strings.NewReader(answer))
		cmd.SetErr(&asked)
		err := (&consent{}).get(cmd, "Erase all?")
		if (err == nil) != want || asked.String() != "Erase all? [y/N] " {
			t.Errorf("%q: %v after %q", answer, err, &asked)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(&signalError{syscall.SIGINT})
	silent, end := io.Pipe()
	t.Cleanup(func() { _ = end.Close() })
	cmd := &cobra.Command{}
	cmd.SetContext(ctx)
	cmd.SetIn(silent)
	cmd.SetErr(io.Discard)
	if err := (&consent{}).get(cmd, "Erase all?"); exitCode(err) != exitInterrupted+int(syscall.SIGINT) {
		t.Errorf("interrupted: %v", err)
	}
}
