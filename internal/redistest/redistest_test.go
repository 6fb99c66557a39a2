package redistest_test

import (
	"os"
	"strings"
	"testing"

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/redistest"
)

func TestMain(m *testing.M) { fixture.Main(m) }

func TestRestart_KeepsTheAddress(t *testing.T) {
	srv := redistest.Start(t)
	rdb := srv.Client(t)
	if err := rdb.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	srv.Restart(t)
	if n, err := rdb.Exists(t.Context(), "k").Result(); err != nil || n != 0 {
		t.Errorf("after a restart without persistence: %d keys, %v; want 0", n, err)
	}
}

func TestKill_KeepsWhatWasPersisted(t *testing.T) {
	srv := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	rdb := srv.Client(t)
	if err := rdb.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	srv.Kill()
	srv.Restart(t)
	if v, err := rdb.Get(t.Context(), "k").Result(); err != nil || v != "v" {
		t.Errorf("after a kill with appendonly: %q, %v; want v", v, err)
	}
}

func TestStop_IsIdempotent(t *testing.T) {
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
		t.Errorf("data folder %s: %v; want it removed", dir["dir"], err)
	}
}

func TestLaunch_FailsWithAReason(t *testing.T) {
	t.Run("bad argument", func(t *testing.T) {
		_, err := redistest.Launch("--no-such-setting", "1")
		if err == nil || !strings.Contains(err.Error(), "no-such-setting") {
			t.Errorf("got %v; want what the server said", err)
		}
	})
	t.Run("no binary", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		_, err := redistest.Launch()
		if err == nil || !strings.Contains(err.Error(), "run make test, which installs redis-server") {
			t.Errorf("got %v; want the advice", err)
		}
	})
}

func TestAccount_IsNew(t *testing.T) {
	if a, b := redistest.Account(), redistest.Account(); a == b || len(a) > 32 {
		t.Errorf("accounts %q and %q", a, b)
	}
}
