package worker

import (
	"errors"
	"testing"

	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/fleet"
	"github.com/kyclink/kyclink/internal/storage"
)

// A process whose account has become one of the other kind must not feed it.
func TestWorker_EndsWhenItMayNotJoinAgain(t *testing.T) {
	h := newHarness(t, simulator.Script{})
	w := h.start(h.book(), h.faceki)
	h.Eventually("it works", w.started.Load)
	keys, err := h.Redis.Keys(t.Context(), h.Keys.Tag()+"*").Result()
	h.Must(err)
	h.Must(h.Redis.Del(t.Context(), keys...).Err())
	h.Must(storage.Of(h.Redis, h.Keys.Account).Fleet.Join(t.Context())) // a real one
	err = w.wait()
	if refused, ok := errors.AsType[*fleet.UpstreamError](err); !ok || refused.Has != "real" {
		t.Errorf("it ended with %v", err)
	}
}
