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

// process is one `kyclink worker`, or `kyclink serve`.
type process struct {
	cmd   *exec.Cmd
	log   string
	armed bool // may kill itself
	over  chan struct{}

	mu      sync.Mutex
	stopped bool // by us, softly
	killed  bool // by us
}

func launch(program, dir, name string, args, settings []string, failpoint string) (*process, error) {
	log, err := os.Create(filepath.Join(dir, name+".log"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()                                                                                     // the process has its own
	p := &process{cmd: exec.Command(program, args...), log: log.Name(), armed: failpoint != "", over: make(chan struct{})} //nolint:noctx,gosec // ours; ended by pid
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + dir, "KYCLINK_OPS_LISTEN=127.0.0.1:0"}, settings...)
	if failpoint != "" {
		p.cmd.Env = append(p.cmd.Env, "KYCLINK_FAILPOINT="+failpoint)
	}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", filepath.Base(program), err)
	}
	go func() {
		defer close(p.over)
		_ = p.cmd.Wait() // complaint looks at how it ended
	}()
	return p, nil
}

func (p *process) signal(s syscall.Signal) {
	p.mu.Lock()
	p.killed = p.killed || s == syscall.SIGKILL
	p.stopped = p.stopped || s == syscall.SIGTERM
	p.mu.Unlock()
	_ = p.cmd.Process.Signal(s) // an error says that it has ended
}

// complaint says what is wrong with how the process ended; nothing where it was
// killed, stopped well, or never came up because Redis was away or a replica: then
// whoever runs it starts it again.
func (p *process) complaint() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	code := p.cmd.ProcessState.ExitCode()
	killed := p.killed || p.armed && p.cmd.ProcessState.String() == "signal: killed"
	switch {
	case killed, p.stopped && code == 0, code == 1 && !p.cameUp():
		return ""
	case code == 78 && strings.Contains(p.tail(), "is a replica"):
		return ""
	case p.stopped && !p.cameUp() && (code == 143 || p.cmd.ProcessState.String() == "signal: terminated"):
		return "" // it had not joined yet, or was so young that it did not listen to signals
	case p.stopped:
		return fmt.Sprintf("a worker that was stopped softly ended with %s; the end of %s:\n%s", p.cmd.ProcessState, filepath.Base(p.log), p.tail())
	}
	return fmt.Sprintf("a worker ended by itself with %s; the end of %s:\n%s", p.cmd.ProcessState, filepath.Base(p.log), p.tail())
}

func (p *process) cameUp() bool {
	text, err := os.ReadFile(p.log)
	return err != nil || strings.Contains(string(text), "worker started") || strings.Contains(string(text), "listening")
}

func (p *process) tail() string {
	const most = 2000
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-most):])
}

// stop ends the process softly, or after patience hard, and says what is wrong.
func (p *process) stop(patience time.Duration) string {
	p.signal(syscall.SIGCONT)
	p.signal(syscall.SIGTERM)
	select {
	case <-p.over:
		return p.complaint()
	case <-time.After(patience):
	}
	p.signal(syscall.SIGKILL)
	<-p.over
	return fmt.Sprintf("a worker did not stop within %v; the end of %s:\n%s", patience, filepath.Base(p.log), p.tail())
}
