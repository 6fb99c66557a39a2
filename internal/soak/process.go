package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/kyclink/kyclink/internal/redistest"
)

const (
	startTimeout = time.Minute
	stopTimeout  = time.Minute // more than a graceful stop takes
)

// process is a `kyclink worker` or a `kyclink serve`.
type process struct {
	name     string // such as "worker 1"
	ops      string // address of its health and metrics
	log      string // path
	cmd      *exec.Cmd
	exited   chan struct{}
	stopping atomic.Bool
}

// start starts a process and waits until it is ready. The run fails if it ends before
// [process.stop].
func (r *rig) start(ctx context.Context, name string, settings []string, args ...string) error {
	port, err := redistest.FreePort()
	if err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(r.cfg.dir, strings.ReplaceAll(name, " ", "-")+".log"))
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()          // the process has its own
	cmd := exec.Command(r.cfg.kyclink, args...) //nolint:noctx,gosec // ours; stopped by pid
	p := &process{name: name, ops: fmt.Sprint("127.0.0.1:", port), log: log.Name(), cmd: cmd, exited: make(chan struct{})}
	p.cmd.Env = append(r.environment(), append(settings, "KYCLINK_OPS_LISTEN="+p.ops)...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		defer close(p.exited)
		_ = p.cmd.Wait() // the state says how it ended
		if !p.stopping.Load() {
			r.fail(fmt.Errorf("%s ended unexpectedly (%s); the end of its log:\n%s", name, p.cmd.ProcessState, p.tail()))
		}
	}()
	r.processes = append(r.processes, p)
	return p.awaitReady(ctx, r.http)
}

func (p *process) awaitReady(ctx context.Context, client *http.Client) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("%s was not ready within %v", p.name, startTimeout))
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		ready, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.ops+"/readyz", nil)
		if err != nil {
			return err
		}
		answer, err := client.Do(ready)
		if err != nil {
			continue // it does not listen yet
		}
		_ = answer.Body.Close()
		if answer.StatusCode == http.StatusOK {
			return nil
		}
	}
}

// stop stops the process gracefully, or kills it after a timeout. It describes an unexpected
// end, and returns "" otherwise.
func (p *process) stop() string {
	p.stopping.Store(true)
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // fails if it has already exited
	select {
	case <-p.exited:
	case <-time.After(stopTimeout):
		_ = p.cmd.Process.Kill()
		<-p.exited
		return fmt.Sprintf("%s did not stop within %v of SIGTERM; the end of its log:\n%s", p.name, stopTimeout, p.tail())
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		return fmt.Sprintf("%s ended with %s after SIGTERM; the end of its log:\n%s", p.name, p.cmd.ProcessState, p.tail())
	}
	return ""
}

func (p *process) tail() string {
	const size = 2000
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-size):])
}
