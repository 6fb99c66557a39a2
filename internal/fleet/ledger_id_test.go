package fleet_test

import (
	"context"
	"testing"

	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/internal/storage"
)

func TestID_NamesAnAccountUntilRedisIsEmptied(t *testing.T) {
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
		t.Errorf("the id is %s, then %s; that of another account is %s", first, again, other)
	}
	if err := srv.Client(t).FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if emptied := id("a"); emptied == first {
		t.Error("the id is the same after Redis was emptied")
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if id, err := storage.Of(srv.Client(t), "a").Fleet.ID(over); err == nil {
		t.Errorf("the id is %q although Redis was not asked", id)
	}
}
