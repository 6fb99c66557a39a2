package tasks_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/redistest"
)

// startConsumer starts a process that reads results.
func startConsumer(t *testing.T, binary, account, name string, settings ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(binary)
	cmd.Env = append([]string{"REDIS=" + fixture.Redis().Addr, "ACCOUNT=" + account, "CONSUMER=" + name}, settings...)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

// A slow consumer keeps its events. After it is killed, another one claims them when it was
// silent for ClaimAfter, and each is handled once.
func TestResults_ClaimEventsOfAKilledConsumer(t *testing.T) {
	t.Parallel()
	const claimAfter = 5 * time.Second // the ClaimAfter of testdata/consumer
	binary := filepath.Join(t.TempDir(), "consumer")
	fixture.Must(t, fixture.Compile(exec.Command("go", "build", "-o", binary, "./testdata/consumer")))
	rdb, account := fixture.Redis().Client(t), redistest.Account()
	publish(t, rdb, account, 500)
	count := func(what string) int64 {
		n, err := rdb.HLen(t.Context(), account+":"+what).Result()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	dying := startConsumer(t, binary, account, "one", "HANG=1")
	fixture.Eventually(t, "the first consumer has read all that it can", func() bool { return count("hung") == 20 && pending(t, rdb, account, "crm") >= 256 })
	startConsumer(t, binary, account, "two")
	taken := pending(t, rdb, account, "crm")
	fixture.Eventually(t, "the second consumer has handled the others", func() bool { return count("done") >= 500-taken })
	// While the first consumer lives, the second one claims nothing, however long it takes.
	longer := time.Now().Add(claimAfter * 5 / 4)
	fixture.Eventually(t, "the first consumer has lived longer than ClaimAfter", func() bool { return count("done") > 500-256 || time.Now().After(longer) })
	if done := count("done"); done > 500-256 {
		t.Fatalf("%d events are handled while the first consumer lives, want at most %d", done, 500-256)
	}
	begun := time.Now()
	held, err := rdb.XPendingExt(t.Context(), &redis.XPendingExtArgs{
		Stream: keyspace.Keys{Account: account}.Results(), Group: "crm", Start: "-", End: "+", Count: 500, Consumer: "one",
	}).Result()
	fixture.Must(t, err)
	silent := time.Duration(0) // how long, before that
	for _, entry := range held {
		silent = max(silent, entry.Idle)
	}
	if err := dying.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	fixture.Eventually(t, "every event is handled", func() bool { return count("done") == 500 })
	if took := time.Since(begun); took < claimAfter-silent {
		t.Errorf("the events were claimed after %v, want not before %v", took, claimAfter-silent)
	}
	fixture.Eventually(t, "all are acknowledged", func() bool { return pending(t, rdb, account, "crm") == 0 })
	for id, times := range rdb.HGetAll(t.Context(), account+":done").Val() {
		if times != "1" {
			t.Errorf("event %s was handled %s times, want once", id, times)
		}
	}
}
