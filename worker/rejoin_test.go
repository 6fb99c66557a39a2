package worker

import (
	"errors"
	"testing"

	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/fleet"
	"github.com/kyclink/kyclink/internal/storage"
)

// A simulated worker ends if Redis loses the account and a worker of the real FaceKi creates
// it again: simulated links must not be given to real people.
func TestWorker_EndsWhenItMayNotJoinAgain(t *testing.T) {
	h := newHarness(t, simulator.Script{})
	w := h.start(h.book(), h.faceki)
	h.Eventually("the worker has started", w.started.Load)
	keys, err := h.Redis.Keys(t.Context(), h.Keys.Tag()+"*").Result()
	h.Must(err)
	h.Must(h.Redis.Del(t.Context(), keys...).Err())
	h.Must(storage.Of(h.Redis, h.Keys.Account).Fleet.Join(t.Context())) // as a worker of the real FaceKi
	err = w.wait()
	if refused, ok := errors.AsType[*fleet.UpstreamError](err); !ok || refused.Has != "real" {
		t.Errorf("the worker ended with %v, want an UpstreamError of a real account", err)
	}
}
