package redistest_test

import (
	"os"
	"strings"
	"testing"

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/redistest"
)

func TestMain(m *testing.M) { fixture.Main(m) }

func TestServer_KeepsItsAddressWhenRestarted(t *testing.T) {
	srv := redistest.Start(t)
	rdb := srv.Client(t)
	if err := rdb.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	srv.Restart(t)
	if n, err := rdb.Exists(t.Context(), "k").Result(); err != nil || n != 0 {
		t.Errorf("keys after a restart without persistence: got %d, error %v; want 0", n, err)
	}
}

func TestServer_KeepsPersistedDataWhenKilled(t *testing.T) {
	srv := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	rdb := srv.Client(t)
	if err := rdb.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	srv.Kill()
	srv.Restart(t)
	if v, err := rdb.Get(t.Context(), "k").Result(); err != nil || v != "v" {
		t.Errorf("value after a kill with appendonly: got %q, error %v; want v", v, err)
	}
}

func TestServer_CanBeStoppedTwiceAndRemovesItsData(t *testing.T) {
	srv, err := redistest.Launch("--appendonly", "yes")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := srv.Client(t).ConfigGet(t.Context(), "dir").Result()
	if err != nil {
		t.Fatal(err)
	}
	srv.Stop()
	srv.Stop()
	srv.Close()
	if _, err := os.Stat(dir["dir"]); !os.IsNotExist(err) {
		t.Errorf("data directory %s: got error %v, want it removed", dir["dir"], err)
	}
}

func TestLaunch_ReportsWhyItFails(t *testing.T) {
	t.Run("bad argument", func(t *testing.T) {
		_, err := redistest.Launch("--no-such-setting", "1")
		if err == nil || !strings.Contains(err.Error(), "no-such-setting") {
			t.Errorf("got error %v, want the output of the server", err)
		}
	})
	t.Run("no binary", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		_, err := redistest.Launch()
		if err == nil || !strings.Contains(err.Error(), "install it with make test-needs") {
			t.Errorf("got error %v, want how to install redis-server", err)
		}
	})
}

func TestAccount_IsUnique(t *testing.T) {
	if a, b := redistest.Account(), redistest.Account(); a == b || len(a) > 32 {
		t.Errorf("got accounts %q and %q, want two short different ones", a, b)
	}
}
