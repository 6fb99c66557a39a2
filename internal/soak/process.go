package main

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/kyclink/kyclink/internal/child"
	"github.com/kyclink/kyclink/internal/redistest"
)

const (
	startTimeout = time.Minute
	stopTimeout  = time.Minute // more than a graceful stop takes
)

// process is a `kyclink worker` or a `kyclink serve`.
type process struct {
	*child.Process

	name string // such as "worker 1"
	ops  string // address of its health and metrics
}

// start starts a process and waits until it is ready. The run fails if it ends before
// [process.stop].
func (r *rig) start(ctx context.Context, name string, settings []string, args ...string) error {
	port, err := redistest.FreePort()
	if err != nil {
		return err
	}
	p := &process{name: name, ops: fmt.Sprint("127.0.0.1:", port)}
	log := filepath.Join(r.cfg.dir, strings.ReplaceAll(name, " ", "-")+".log")
	settings = slices.Concat(r.environment(), settings, []string{"KYCLINK_OPS_LISTEN=" + p.ops})
	if p.Process, err = child.Start(log, settings, r.cfg.kyclink, args...); err != nil {
		return err
	}
	r.watching.Go(func() {
		if <-p.Exited; !p.Sent(syscall.SIGTERM) {
			r.fail(fmt.Errorf("%s ended unexpectedly (%s); %s", name, p.State(), p.Tail()))
		}
	})
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
	if err := p.Stop(stopTimeout); err != nil {
		return fmt.Sprintf("%s: %v", p.name, err)
	}
	if !p.State().Success() {
		return fmt.Sprintf("%s ended with %s after SIGTERM; %s", p.name, p.State(), p.Tail())
	}
	return ""
}
