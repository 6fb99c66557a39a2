package redistest_test

import (
	"testing"

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/redistest"
)

func TestServer_LosesWritesAfterTheSnapshot(t *testing.T) {
	srv := redistest.Start(t)
	rdb := srv.Client(t)
	fixture.Must(t, rdb.Set(t.Context(), "k", "before", 0).Err())
	fixture.Must(t, srv.Snapshot())
	fixture.Must(t, rdb.Set(t.Context(), "k", "after", 0).Err())
	fixture.Must(t, srv.LoseWrites())
	if v, err := rdb.Get(t.Context(), "k").Result(); err != nil || v != "before" {
		t.Errorf("value after LoseWrites: got %q, error %v; want before", v, err)
	}
}
