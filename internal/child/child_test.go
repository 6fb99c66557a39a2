package child_test

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/child"
	"github.com/kyclink/kyclink/internal/fixture"
)

func TestMain(m *testing.M) { fixture.Alone(m) }

// start starts a script of the shell that prints "ready" when it can be stopped.
func start(t *testing.T, script string) *child.Process {
	t.Helper()
	p, err := child.Start(filepath.Join(t.TempDir(), "shell.log"), []string{"NAME=value"}, "/bin/sh", "-c", script)
	fixture.Must(t, err)
	t.Cleanup(p.Kill)
	fixture.Eventually(t, "it is ready", func() bool { return strings.Contains(p.Tail(), "ready") })
	return p
}

func TestProcess_StopsGracefully(t *testing.T) {
	p := start(t, `trap 'echo "$NAME $KYCLINK_OPS_LISTEN"; exit 7' TERM; echo ready; while :; do sleep 0.1; done`)
	if p.State() != nil || p.Sent(syscall.SIGTERM, syscall.SIGKILL) {
		t.Error("it has ended")
	}
	fixture.Must(t, p.Stop(time.Minute))
	if code := p.State().ExitCode(); code != 7 || !p.Sent(syscall.SIGTERM) || p.Sent(syscall.SIGKILL) {
		t.Errorf("it ended with %d", code)
	}
	if got, want := p.Tail(), "the end of shell.log:\nready\nvalue 127.0.0.1:0\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestProcess_IsKilledIfItDoesNotStop(t *testing.T) {
	p := start(t, `trap '' TERM; echo ready; while :; do sleep 0.1; done`)
	if err := p.Stop(time.Millisecond); err == nil || !strings.HasSuffix(err.Error(), "the end of shell.log:\nready\n") {
		t.Errorf("got %v, want the end of the log", err)
	}
	if p.State().String() != "signal: killed" || !p.Sent(syscall.SIGKILL) {
		t.Errorf("it ended with %v", p.State())
	}
}

func TestOutput_ReportsWhyACommandFails(t *testing.T) {
	out, err := child.Output(t.Context(), []string{"NAME=value"}, "/bin/sh", "-c", "echo $NAME")
	if err != nil || out != "value\n" {
		t.Errorf("got %q, %v", out, err)
	}
	if _, err = child.Output(t.Context(), nil, "/bin/sh", "-c", "echo why >&2; exit 3"); err == nil || err.Error() != "sh -c: exit status 3: why\n" {
		t.Errorf("got %v", err)
	}
}
