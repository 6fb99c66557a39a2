package fleet_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/fleet"
	"github.com/kyclink/kyclink/internal/storage"
	"github.com/kyclink/kyclink/tasks"
)

// A worker that has reached Redis for less than DeadAfter finds no other worker dead.
func TestHandlers_AreAliveToAWorkerThatHasJustJoined(t *testing.T) {
	h := newHarness(t)
	_, err := h.Client.Enqueue(t.Context(), tasks.Request{ApplicationID: "A-1"})
	h.Must(err)
	r, _ := h.Get("A-1")
	h.Must(h.Stores.Fleet.Heartbeat(t.Context(), []string{r.Ref().String()}))
	silent := float64(time.Now().Add(-10 * time.Minute).UnixMilli())
	for _, number := range h.Redis.ZRange(t.Context(), h.Keys.Workers(), 0, -1).Val() {
		h.Must(h.Redis.ZAdd(t.Context(), h.Keys.Workers(), redis.Z{Score: silent, Member: number}).Err())
	}
	joined := storage.New(h.Redis, storage.Config{Fleet: fleet.Config{Account: h.Keys.Account, Simulated: true}})
	h.Must(joined.Fleet.Join(t.Context()))
	alive, err := joined.Fleet.Handlers(t.Context())
	h.Must(err)
	if lives, claimed := alive[r.Ref().String()]; !claimed || !lives {
		t.Errorf("to the worker that has just joined the turn has a handler: %v, which is alive: %v", claimed, lives)
	}
	observer := h.ImpatientWorker()
	for deadline := time.Now().Add(time.Minute); alive[r.Ref().String()]; alive, err = observer.Fleet.Handlers(t.Context()) {
		h.Must(err)
		if time.Now().After(deadline) {
			t.Fatal("the silent worker stays alive")
		}
	}
	if lives, claimed := alive[r.Ref().String()]; !claimed || lives {
		t.Errorf("to the other worker the turn has a handler: %v, which is alive: %v", claimed, lives)
	}
}
