// Package child runs programs as child processes of the benchmarks, the fault suite and the
// soak. What a program prints is in a log file; whether its end was expected is for the
// caller to decide.
package child

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Process is a program that runs, or has ended. It is safe for concurrent use.
type Process struct {
	// Log is the path of the file with its output.
	Log string
	// Exited is closed when it has exited.
	Exited <-chan struct{}

	cmd  *exec.Cmd
	mu   sync.Mutex
	sent []syscall.Signal
}

// Start starts a program with only the given settings in its environment, and those that
// every process needs: PATH, the log's directory for temporary files, and a free port for
// health and metrics.
func Start(log string, settings []string, program string, args ...string) (*Process, error) {
	file, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // the process has its own
	exited := make(chan struct{})
	p := &Process{Log: log, Exited: exited, cmd: exec.Command(program, args...)} //nolint:noctx,gosec // ours; ended by signals
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + filepath.Dir(log), "KYCLINK_OPS_LISTEN=127.0.0.1:0"}, settings...)
	p.cmd.Stdout, p.cmd.Stderr = file, file
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", filepath.Base(program), err)
	}
	go func() {
		defer close(exited)
		_ = p.cmd.Wait() // State says how it ended
	}()
	return p, nil
}

// Output runs a short command to its end, and returns what it prints to stdout. The error
// contains what it prints to stderr.
func Output(ctx context.Context, settings []string, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...) //nolint:gosec // ours
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, settings...)
	out, err := cmd.Output()
	if failed, ok := errors.AsType[*exec.ExitError](err); ok {
		return "", fmt.Errorf("%s %s: %w: %s", filepath.Base(program), args[0], err, failed.Stderr)
	}
	return string(out), err
}

// PID returns the process ID.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// State describes how the process ended. It is nil until it has.
func (p *Process) State() *os.ProcessState {
	select {
	case <-p.Exited:
		return p.cmd.ProcessState
	default:
		return nil
	}
}

// Signal sends a signal, unless the process has exited.
func (p *Process) Signal(s syscall.Signal) {
	p.mu.Lock()
	p.sent = append(p.sent, s)
	p.mu.Unlock()
	_ = p.cmd.Process.Signal(s) // fails if it has already exited
}

// Sent reports whether one of the signals was sent by this program.
func (p *Process) Sent(signals ...syscall.Signal) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(signals, func(s syscall.Signal) bool { return slices.Contains(p.sent, s) })
}

// Kill kills the process, like a crash, and waits for its end.
func (p *Process) Kill() {
	p.Signal(syscall.SIGKILL)
	<-p.Exited
}

// Stop stops the process gracefully, or kills it after the timeout, which is an error. How
// it ends in time is not judged.
func (p *Process) Stop(timeout time.Duration) error {
	p.Signal(syscall.SIGTERM)
	select {
	case <-p.Exited:
		return nil
	case <-time.After(timeout):
	}
	p.Kill()
	return fmt.Errorf("a process did not stop within %v of SIGTERM; %s", timeout, p.Tail())
}

// Tail returns the end of the log, after a heading that names its file.
func (p *Process) Tail() string {
	const size = 2000
	text, err := os.ReadFile(p.Log)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("the end of %s:\n%s", filepath.Base(p.Log), text[max(0, len(text)-size):])
}
