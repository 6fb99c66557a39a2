package fleet_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/fleet"
	"github.com/kyclink/kyclink/internal/storage"
	"github.com/kyclink/kyclink/tasks"
)

// Who has not reached Redis for as long as it takes to be dead knows of nobody
// that it is.
func TestWhoHasJustComeHoldsNobodyForDead(t *testing.T) {
	h := newHarness(t)
	_, err := h.Client.Enqueue(t.Context(), tasks.Request{ApplicationID: "A-1"})
	h.Must(err)
	r, _ := h.Get("A-1")
	h.Must(h.Stores.Fleet.Heartbeat(t.Context(), []string{r.Ref().String()}))
	silent := float64(time.Now().Add(-10 * time.Minute).UnixMilli())
	for _, number := range h.Redis.ZRange(t.Context(), h.Keys.Workers(), 0, -1).Val() {
		h.Must(h.Redis.ZAdd(t.Context(), h.Keys.Workers(), redis.Z{Score: silent, Member: number}).Err())
	}
	come := storage.New(h.Redis, storage.Config{Fleet: fleet.Config{Account: h.Keys.Account, Simulated: true}})
	h.Must(come.Fleet.Join(t.Context()))
	alive, err := come.Fleet.Handlers(t.Context())
	h.Must(err)
	if lives, claimed := alive[r.Ref().String()]; !claimed || !lives {
		t.Errorf("it is claimed: %v, alive: %v", claimed, lives)
	}
	judge := h.ImpatientWorker()
	for deadline := time.Now().Add(time.Minute); alive[r.Ref().String()]; alive, err = judge.Fleet.Handlers(t.Context()) {
		h.Must(err)
		if time.Now().After(deadline) {
			t.Fatal("nobody holds it for dead")
		}
	}
	if lives, claimed := alive[r.Ref().String()]; !claimed || lives {
		t.Errorf("to who was there it is claimed: %v, alive: %v", claimed, lives)
	}
}
