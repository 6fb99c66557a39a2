package asynqx

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/redistest"
)

func TestServer_IsWokenAcrossFailovers(t *testing.T) {
	t.Parallel()
	t.Run("cluster", func(t *testing.T) {
		t.Parallel()
		c := redistest.StartCluster(t)
		f := newFleet(t, c.Client(t), redistest.Account())
		f.start(c.Client(t), c.Client(t), &waiter{})
		f.survives(func(ctx context.Context) error { return c.Failover(ctx, f.key("pending")) })
	})
	t.Run("sentinel", func(t *testing.T) {
		t.Parallel()
		s := redistest.StartSentinel(t)
		f := newFleet(t, s.Client(t), redistest.Account())
		f.start(s.Client(t), s.Client(t), &waiter{})
		f.survives(s.Failover)
	})
}

// survives checks that servers are woken before and after a failover.
func (f *fleet) survives(failover func(context.Context) error) {
	f.Helper()
	w := f.servers[0]
	isWoken := func(id string) {
		before := w.woken.Load()
		for i := 0; w.woken.Load() == before; i++ {
			f.handles(f.enqueue(fmt.Sprintf("%s-%d", id, i)))
		}
	}
	isWoken("A")
	ctx, cancel := context.WithTimeout(f.Context(), 4*time.Minute)
	defer cancel()
	fixture.Must(f.T, failover(ctx))
	fixture.Eventually(f.T, "Redis answers again", func() bool { return f.rdb.Set(ctx, f.key("probe"), 1, 0).Err() == nil })
	isWoken("B")
}
