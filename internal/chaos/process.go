package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/kyclink/kyclink/internal/child"
)

// process is a `kyclink worker` or a `kyclink serve`.
type process struct {
	*child.Process

	armed bool // has a failpoint, so it may kill itself
}

func launch(program, dir, name string, args, settings []string, failpoint string) (*process, error) {
	if failpoint != "" {
		settings = slices.Concat(settings, []string{"KYCLINK_FAILPOINT=" + failpoint})
	}
	p, err := child.Start(filepath.Join(dir, name+".log"), settings, program, args...)
	return &process{p, failpoint != ""}, err
}

// problem describes an unexpected end of the process. It returns "" if the process was
// killed or stopped gracefully, or did not start because Redis was unavailable or a replica,
// since a supervisor would then restart it.
func (p *process) problem() string {
	state, stopped := p.State(), p.Sent(syscall.SIGTERM)
	code := state.ExitCode()
	killed := p.Sent(syscall.SIGKILL) || p.armed && state.String() == "signal: killed"
	switch {
	case killed, stopped && code == 0, code == 1 && !p.started():
		return ""
	case code == 78 && strings.Contains(p.Tail(), "is a replica"):
		return ""
	case stopped && !p.started() && (code == 143 || state.String() == "signal: terminated"):
		return "" // it had not joined, or not installed its signal handler
	case stopped:
		return fmt.Sprintf("a process ended with %s after SIGTERM; %s", state, p.Tail())
	}
	return fmt.Sprintf("a process ended unexpectedly with %s; %s", state, p.Tail())
}

// started reports whether the log says that the process started.
func (p *process) started() bool {
	text, err := os.ReadFile(p.Log)
	return err != nil || strings.Contains(string(text), "worker started") || strings.Contains(string(text), "listening")
}

// stop stops the process gracefully, or kills it after the timeout. It describes an
// unexpected end.
func (p *process) stop(timeout time.Duration) string {
	p.Signal(syscall.SIGCONT)
	if err := p.Stop(timeout); err != nil {
		return err.Error()
	}
	return p.problem()
}
