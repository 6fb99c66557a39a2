package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// process is a process started by a rig.
type process struct {
	cmd     *exec.Cmd
	log     string
	began   time.Time
	over    chan struct{} // closed when it has exited
	stopped bool          // its end is expected
}

// run starts a program with only the given settings in its environment.
func (r *rig) run(program string, settings []string, args ...string) error {
	log, err := os.Create(filepath.Join(r.dir, fmt.Sprintf("%d.log", len(r.processes))))
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()                                                                                // the process has its own
	p := &process{cmd: exec.Command(program, args...), log: log.Name(), began: time.Now(), over: make(chan struct{})} //nolint:gosec,noctx // ours; ended by pid, softly where that is measured
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + r.dir, "KYCLINK_OPS_LISTEN=127.0.0.1:0"}, settings...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", filepath.Base(program), err)
	}
	go func() {
		defer close(p.over)
		_ = p.cmd.Wait() // alive and stop examine how it ended
	}()
	r.processes = append(r.processes, p)
	return nil
}

// alive returns an error if a process has ended unexpectedly.
func (r *rig) alive() error {
	for _, p := range r.processes {
		if p.stopped {
			continue
		}
		select {
		case <-p.over:
			return fmt.Errorf("a process ended unexpectedly (%s); the end of its log:\n%s", p.cmd.ProcessState, p.tail())
		default:
		}
	}
	return nil
}

func (p *process) tail() string {
	const size = 2000
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-size):])
}

// kill kills the process, like a crash.
func (p *process) kill() {
	p.stopped = true
	_ = p.cmd.Process.Kill() // fails if it has already exited
	<-p.over
}

// stop stops the process gracefully, and returns its processor time and its lifetime.
func (p *process) stop(timeout time.Duration) (cpu, life time.Duration, err error) {
	p.stopped = true
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // fails if it has already exited
	select {
	case <-p.over:
	case <-time.After(timeout):
		p.kill()
		return 0, 0, errors.New("a process did not stop; the end of its log:\n" + p.tail())
	}
	state := p.cmd.ProcessState
	return state.UserTime() + state.SystemTime(), time.Since(p.began), nil
}
