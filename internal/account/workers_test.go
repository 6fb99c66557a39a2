package account_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/fixture/ledgertest"
)

// A process without a recent heartbeat is not alive, and its calls do not count.
func TestWorkers_AreAliveWithTheirCalls(t *testing.T) {
	h := ledgertest.New(t)
	now := float64(time.Now().UnixMilli())
	h.Must(h.Redis.Del(t.Context(), h.Keys.Workers()).Err())
	h.Must(h.Redis.ZAdd(t.Context(), h.Keys.Workers(), redis.Z{Score: now, Member: "70"}, redis.Z{Score: now - 1000, Member: "8"},
		redis.Z{Score: now - 60_000, Member: "9"}).Err())
	h.Must(h.Redis.ZAdd(t.Context(), h.Keys.Calls(), redis.Z{Score: now, Member: "70 A-1 x"}, redis.Z{Score: now, Member: "70 A-2 y"},
		redis.Z{Score: now, Member: "9 A-3 z"}, redis.Z{Score: now - 600_000, Member: "8 A-4 z"}).Err())
	got, err := h.Stores.Account.Workers(t.Context())
	h.Must(err)
	if w := got.Workers; len(w) != 2 || got.More != 0 || w[0].Process != 8 || w[0].Calls != 0 || w[1].Process != 70 || w[1].Calls != 2 || w[1].LastHeartbeat.UnixMilli() != int64(now) {
		t.Errorf("got %+v, want process 8 without calls and process 70 with 2", got)
	}
	for i := range 1002 {
		h.Must(h.Redis.ZAdd(t.Context(), h.Keys.Workers(), redis.Z{Score: now, Member: 1000 + i}).Err())
	}
	if got, err = h.Stores.Account.Workers(t.Context()); err != nil || len(got.Workers) != 1000 || got.More != 4 {
		t.Errorf("got %d workers and %d more (%v), want 1000 and 4", len(got.Workers), got.More, err)
	}
}
