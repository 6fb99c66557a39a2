package embedded_test

import (
	"context"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/embedded"
	"github.com/kyclink/kyclink/internal/fixture"
)

func TestMain(m *testing.M) { fixture.Alone(m) }

// Everything of every type that kyclink and asynq store is there again: bytes that are not
// text, expiry times, and what consumers have not acknowledged.
func TestSave_KeepsEverything(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "data")
	before := open(t)
	for _, command := range [][]any{
		{"SET", "string", "\x00\xff\xfe"},
		{"SET", "empty", ""},
		{"SET", "expires", "x", "PX", 3_600_000},
		{"RPUSH", "list", "b", "a", "b"},
		{"SADD", "set", "b", "a"},
		{"HSET", "hash", "f", "\xff", "g", ""},
		{"ZADD", "zset", 1.5, "a", "1764510000123.25", "b"},
		{"XADD", "stream", "1-0", "z", "1", "a", "\xff"},
		{"XADD", "stream", "2-0", "z", "2"},
		{"XADD", "stream", "3-0", "z", "3"},
		{"XGROUP", "CREATE", "stream", "g", "0"},
		{"XREADGROUP", "GROUP", "g", "one", "COUNT", 2, "STREAMS", "stream", ">"},
		{"XACK", "stream", "g", "1-0"},
		{"XGROUP", "CREATE", "nothing", "h", "5-0", "MKSTREAM"},
	} {
		if err := before.Do(ctx, command...).Err(); err != nil {
			t.Fatal(command, err)
		}
	}
	if err := embedded.Save(ctx, before, path); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v; want a file that only its owner can read", info, err)
	}
	after := open(t)
	if err := embedded.Load(ctx, after, path); err != nil {
		t.Fatal(err)
	}
	for _, command := range [][]any{
		{"DBSIZE"},
		{"GET", "string"},
		{"GET", "empty"},
		{"LRANGE", "list", 0, -1},
		{"SMEMBERS", "set"},
		{"HGET", "hash", "f"},
		{"HGET", "hash", "g"},
		{"ZRANGE", "zset", 0, -1, "WITHSCORES"},
		{"XRANGE", "stream", "-", "+"},
		{"XPENDING", "stream", "g"},
		{"XREADGROUP", "GROUP", "g", "one", "STREAMS", "stream", "0"},
		{"XREADGROUP", "GROUP", "g", "two", "STREAMS", "stream", ">"},
		{"XADD", "nothing", "6-0", "a", "b"},
		{"XREADGROUP", "GROUP", "h", "one", "STREAMS", "nothing", ">"},
	} {
		want, err := before.Do(ctx, command...).Result()
		if err != nil {
			t.Fatal(command, err)
		}
		if got, err := after.Do(ctx, command...).Result(); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%v: got %q, %v; want %q", command, got, err, want)
		}
	}
	if left := after.PTTL(ctx, "expires").Val(); left <= 0 || left > time.Hour {
		t.Errorf("the key expires in %v, want an hour at most", left)
	}
}

func TestLoad_BeginsWithoutAFileAndRefusesABrokenOne(t *testing.T) {
	t.Parallel()
	rdb := open(t)
	path := filepath.Join(t.TempDir(), "data")
	if err := embedded.Load(t.Context(), rdb, path); err != nil {
		t.Errorf("without a file: %v", err)
	}
	if err := os.WriteFile(path, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := embedded.Load(t.Context(), rdb, path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("of a broken file: %v, want an error with its name", err)
	}
}

func open(t *testing.T) redis.UniversalClient {
	t.Helper()
	rdb, stop, err := embedded.Redis()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	if err := rdb.Ping(context.Background()).Err(); err != nil {
		t.Fatal(err)
	}
	return rdb
}
