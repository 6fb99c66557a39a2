package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a `kyclink worker` or a `kyclink serve`.
type process struct {
	cmd    *exec.Cmd
	log    string
	armed  bool // has a failpoint, so it may kill itself
	exited chan struct{}

	mu      sync.Mutex
	stopped bool // with SIGTERM, by this program
	killed  bool // with SIGKILL, by this program
}

func launch(program, dir, name string, args, settings []string, failpoint string) (*process, error) {
	log, err := os.Create(filepath.Join(dir, name+".log"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()                                                                                       // the process has its own
	p := &process{cmd: exec.Command(program, args...), log: log.Name(), armed: failpoint != "", exited: make(chan struct{})} //nolint:noctx,gosec // ours; ended by pid
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + dir, "KYCLINK_OPS_LISTEN=127.0.0.1:0"}, settings...)
	if failpoint != "" {
		p.cmd.Env = append(p.cmd.Env, "KYCLINK_FAILPOINT="+failpoint)
	}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", filepath.Base(program), err)
	}
	go func() {
		defer close(p.exited)
		_ = p.cmd.Wait() // problem examines how it ended
	}()
	return p, nil
}

func (p *process) signal(s syscall.Signal) {
	p.mu.Lock()
	p.killed = p.killed || s == syscall.SIGKILL
	p.stopped = p.stopped || s == syscall.SIGTERM
	p.mu.Unlock()
	_ = p.cmd.Process.Signal(s) // fails if it has already exited
}

// problem describes an unexpected end of the process. It returns "" if the process was
// killed or stopped gracefully, or did not start because Redis was unavailable or a replica,
// since a supervisor would then restart it.
func (p *process) problem() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	code := p.cmd.ProcessState.ExitCode()
	killed := p.killed || p.armed && p.cmd.ProcessState.String() == "signal: killed"
	switch {
	case killed, p.stopped && code == 0, code == 1 && !p.started():
		return ""
	case code == 78 && strings.Contains(p.tail(), "is a replica"):
		return ""
	case p.stopped && !p.started() && (code == 143 || p.cmd.ProcessState.String() == "signal: terminated"):
		return "" // it had not joined, or not installed its signal handler
	case p.stopped:
		return fmt.Sprintf("a process ended with %s after SIGTERM; the end of %s:\n%s", p.cmd.ProcessState, filepath.Base(p.log), p.tail())
	}
	return fmt.Sprintf("a process ended unexpectedly with %s; the end of %s:\n%s", p.cmd.ProcessState, filepath.Base(p.log), p.tail())
}

// started reports whether the log says that the process started.
func (p *process) started() bool {
	text, err := os.ReadFile(p.log)
	return err != nil || strings.Contains(string(text), "worker started") || strings.Contains(string(text), "listening")
}

func (p *process) tail() string {
	const size = 2000
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-size):])
}

// stop stops the process gracefully, or kills it after the timeout. It describes an
// unexpected end.
func (p *process) stop(timeout time.Duration) string {
	p.signal(syscall.SIGCONT)
	p.signal(syscall.SIGTERM)
	select {
	case <-p.exited:
		return p.problem()
	case <-time.After(timeout):
	}
	p.signal(syscall.SIGKILL)
	<-p.exited
	return fmt.Sprintf("a process did not stop within %v of SIGTERM; the end of %s:\n%s", timeout, filepath.Base(p.log), p.tail())
}
