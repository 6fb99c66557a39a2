package main

import (
	"maps"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/redistest"
)

// The first worker makes an account real or simulated. A process of the other kind exits
// without changing anything in Redis.
func TestJoin_ChangesNothingWhenRefused(t *testing.T) {
	t.Parallel()
	sim, setting := upstream(t, `{}`)
	server := newRedis(t)
	rdb, keys := server.Client(t), keyspace.Keys{Account: "default"}
	shared := []string{"KYCLINK_REDIS_URL=" + server.URL, setting}
	first := start(t, append(shared, "FACEKI_CLIENT_ID=invented", "FACEKI_CLIENT_SECRET=invented-too", "FACEKI_RATE=5/s", "FACEKI_BURST=5"), "worker")
	fixture.Eventually(t, "a real worker starts", func() bool { return strings.Contains(first.stderr.String(), "worker started") })
	first.signal(syscall.SIGTERM) // before its first link
	if code := first.exit(); code != 0 {
		t.Fatalf("exit code %d:\n%s", code, first.stderr.String())
	}
	if err := rdb.XAdd(t.Context(), &redis.XAddArgs{Stream: keys.Requests(), Values: []string{"application_id", "S-1"}}).Err(); err != nil {
		t.Fatal(err)
	}

	dump := func() map[string]string {
		all := map[string]string{}
		for _, key := range rdb.Keys(t.Context(), "*").Val() {
			all[key] = rdb.Dump(t.Context(), key).Val()
		}
		return all
	}
	dir, before := t.TempDir(), dump()
	out := filepath.Join(dir, "out.csv")
	for _, args := range [][]string{
		{"worker", "--simulate"},
		{"run", write(t, filepath.Join(dir, "in.csv"), people(3)), "-o", out, "--simulate"},
	} {
		code, _, stderr := kyclink(t, append(shared, "FACEKI_RATE=200/s"), args...)
		if code != 1 || !strings.Contains(stderr, `account "default" is real`) || !strings.Contains(stderr, "KYCLINK_ACCOUNT") {
			t.Errorf("%v: exit code %d:\n%s", args, code, stderr)
		}
		after := dump()
		if !maps.Equal(after, before) {
			for key := range after {
				if after[key] != before[key] {
					t.Errorf("%v changed %s", args, key)
				}
			}
			t.Errorf("%v: %d keys, want %d", args, len(after), len(before))
		}
	}
	if calls := sim.State().LinkCalls; calls != 0 {
		t.Errorf("%d calls", calls)
	}
}

// The error of a full Redis is quoted and explained.
func TestJoin_ExplainsAFullRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--maxmemory", "100kb")
	_, setting := upstream(t, `{}`)
	settings := []string{"KYCLINK_REDIS_URL=" + server.URL, setting}
	for _, args := range [][]string{{"request", "--application-id", "A-1"}, {"worker", "--simulate"}} {
		code, _, stderr := kyclink(t, settings, args...)
		if code != 1 || !strings.Contains(stderr, "OOM") || !strings.Contains(stderr, "its memory is full; raise its maxmemory") {
			t.Errorf("%v: exit code %d:\n%s", args, code, stderr)
		}
	}
}
