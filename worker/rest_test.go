package worker

import (
	"context"
	"errors"
	"testing"

	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/account"
	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/fleet"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/storage"
)

// resting returns a harness whose workers rest while the account has no work.
func resting(t *testing.T) *harness {
	t.Helper()
	h := newHarness(t, simulator.Script{})
	watch := account.NewWatch(h.Redis, zap.NewNop())
	ctx, stop := context.WithCancel(context.Background())
	over := make(chan struct{})
	go func() {
		defer close(over)
		watch.Run(ctx)
	}()
	t.Cleanup(func() { stop(); <-over })
	h.cfg.Rest = watch.Rest(h.Keys.Account, "")
	return h
}

// rests waits until the worker rests: it has no session, and is ready.
func (p *process) rests() {
	p.t.Helper()
	fixture.Eventually(p.t, "the worker rests", func() bool { return p.started.Load() && p.session.Load() == nil })
	if err := p.Ready(); err != nil {
		p.t.Errorf("a worker that rests is not ready: %v", err)
	}
}

// A worker of an account without work stays in the fleet and has nothing else. It wakes for
// requests of each lane, and rests again.
func TestWorker_RestsWhileItsAccountHasNoWork(t *testing.T) {
	t.Parallel()
	h := resting(t)
	beside := make(chan bool, 100)
	h.cfg.Beside = func(ctx context.Context) {
		beside <- true
		<-ctx.Done()
		beside <- false
	}
	p := h.start(h.book(), h.faceki)
	p.rests()
	if len(beside) > 0 {
		t.Error("something runs beside a worker that rests")
	}
	h.accept("A-1")
	h.created("A-1")
	if !<-beside {
		t.Error("the function beside ended first")
	}
	p.rests()
	if <-beside {
		t.Error("the function beside still runs")
	}
	if n := h.Redis.ZCard(t.Context(), h.Keys.Workers()).Val(); n != 1 {
		t.Errorf("the fleet has %d workers", n)
	}
	h.batch("row", 30)
	h.allCreated("row", 30)
	h.expect("row-29", request.Created, 1, 0)
	h.Must(p.stop())
	if n := h.Redis.ZCard(t.Context(), h.Keys.Workers()).Val(); n != 0 {
		t.Errorf("%d workers are left in the fleet", n)
	}
}

func TestWorker_StopsAtOnceWhileItRests(t *testing.T) {
	t.Parallel()
	h := resting(t)
	p := h.start(h.book(), h.faceki)
	p.rests()
	h.quickly(p)
	if err := p.Ready(); err == nil {
		t.Error("a worker that has stopped is ready")
	}
}

// A worker that rests ends as well if it may not join its account again.
func TestWorker_EndsWhileItRestsWhenItMayNotJoinAgain(t *testing.T) {
	t.Parallel()
	h := resting(t)
	p := h.start(h.book(), h.faceki)
	p.rests()
	keys, err := h.Redis.Keys(t.Context(), h.Keys.Tag()+"*").Result()
	h.Must(err)
	h.Must(h.Redis.Del(t.Context(), keys...).Err())
	h.Must(storage.Of(h.Redis, h.Keys.Account).Fleet.Join(t.Context())) // as a worker of the real FaceKi
	err = p.wait()
	if refused, ok := errors.AsType[*fleet.UpstreamError](err); !ok || refused.Has != "real" {
		t.Errorf("the worker ended with %v, want an UpstreamError of a real account", err)
	}
}
