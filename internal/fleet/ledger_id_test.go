package fleet_test

import (
	"context"
	"testing"

	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/internal/storage"
)

func TestID(t *testing.T) {
	srv := redistest.Start(t)
	id := func(account string) string {
		id, err := storage.Of(srv.Client(t), account).Fleet.ID(t.Context())
		if err != nil || id == "" {
			t.Fatalf("id %q, %v", id, err)
		}
		return id
	}
	first := id("a")
	if again, other := id("a"), id("b"); again != first || other == first {
		t.Errorf("%s, then %s, and %s of another account", first, again, other)
	}
	if err := srv.Client(t).FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if emptied := id("a"); emptied == first {
		t.Error("a Redis that was emptied is taken for the one before")
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if id, err := storage.Of(srv.Client(t), "a").Fleet.ID(over); err == nil {
		t.Errorf("id %q of a Redis that does not answer", id)
	}
}
