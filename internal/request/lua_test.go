package request_test

import (
	"errors"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/lua"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/internal/request"
)

// script returns a test's script that uses the libraries.
func script(text string, uses ...string) *lua.Script {
	return lua.NewPackage("test", fstest.MapFS{}).Text("test.lua", "-- uses: "+strings.Join(uses, ", ")+"\n"+text)
}

// TestLuaAgrees holds the scripts' reading and writing against Go's, byte by
// byte: what Lua read and wrote again is what Go wrote.
func TestLuaAgrees(t *testing.T) {
	rdb, tag := fixture.Redis().Client(t), []string{keyspace.Keys{Account: redistest.Account()}.Tag()}
	header := script(`return header(parse(ARGV[1]))`, "record")
	whole := script(`
		local content, resolved, outcome, earlier = sections(ARGV[1])
		write(tag .. '/A-1', parse(ARGV[1]), content, resolved, outcome, earlier)
		return redis.call('GET', tag .. '/A-1')`, "keys", "record")
	rapid.Check(t, func(rt *rapid.T) {
		raw, err := drawRecord(rt).Encode()
		if err != nil {
			rt.Fatal(err)
		}
		got, err := header.RunList(t.Context(), rdb, tag, []any{raw}).Text()
		if err != nil || got != string(raw[:request.HeaderLen]) {
			rt.Fatalf("%v; the header\n%s became\n%s", err, raw[:request.HeaderLen], got)
		}
		got, err = whole.RunList(t.Context(), rdb, tag, []any{raw}).Text()
		if err != nil || got != string(raw) {
			rt.Fatalf("%v; the record\n%s became\n%s", err, raw, got)
		}
	})
}

// TestLuaBeyondAColumn counts beyond every column: counters stop, as Go's do,
// and anything else is an error that leaves the record as it was.
func TestLuaBeyondAColumn(t *testing.T) {
	rdb, tag := fixture.Redis().Client(t), []string{keyspace.Keys{Account: redistest.Account()}.Tag()}
	r := full()
	r.Attempts, r.Charged, r.PossibleDuplicates, r.Seen = 1e6, 1e6, 1e6, 1e11
	want, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	key := tag[0] + "/A-1"
	set := script(`
		redis.call('SET', tag .. '/A-1', ARGV[1])
		local h = load('A-1')
		for i = 2, #ARGV, 2 do h[ARGV[i]] = tonumber(ARGV[i + 1]) end
		save(tag .. '/A-1', h)`, "keys", "record")
	raw, err := full().Encode()
	if err != nil {
		t.Fatal(err)
	}
	err = set.RunList(t.Context(), rdb, tag, []any{raw, "attempts", 1e6, "charged", 1e6, "dups", 1e6, "seen", 1e11}).Err()
	if got := rdb.Get(t.Context(), key).Val(); !errors.Is(err, redis.Nil) || got != string(want) {
		t.Errorf("%v; counters became\n%s, Go's are\n%s", err, got, want)
	}
	for _, name := range []string{"gen", "run", "turn", "batch", "holder", "accepted", "changed"} {
		err := set.RunList(t.Context(), rdb, tag, []any{raw, name, 1e14}).Err()
		if got := rdb.Get(t.Context(), key).Val(); err == nil || !strings.Contains(err.Error(), "too large for its column") || got != string(raw) {
			t.Errorf("%s: %v; the record became %s", name, err, got)
		}
	}
	raw[0] = '2'
	if err := set.RunList(t.Context(), rdb, tag, []any{raw}).Err(); err == nil || !strings.Contains(err.Error(), "unknown version") {
		t.Errorf("a record of version 2 was read: %v", err)
	}
}

func TestTurnsWrap(t *testing.T) {
	rdb, tag := fixture.Redis().Client(t), []string{keyspace.Keys{Account: redistest.Account()}.Tag()}
	r := full()
	r.Turn = 9999
	raw, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := script(`local h = parse(ARGV[1]) enqueue(h, 'A-1') return header(h)`, "record", "turn").RunList(t.Context(), rdb, tag, []any{raw}).Text()
	if err != nil {
		t.Fatal(err)
	}
	if now, err := request.Parse("A-1", []byte(got)); err != nil || now.Turn != 0 || now.State != request.Queued {
		t.Errorf("the turn after 9999 is %d, %v", now.Turn, err)
	}
}

func TestBatchesEnd(t *testing.T) {
	keys := keyspace.Keys{Account: redistest.Account()}
	rdb, open := fixture.Redis().Client(t), script(`return batch_number(ARGV[1])`, "batch_number")
	if err := rdb.HSet(t.Context(), keys.State(), "batches", 999_998).Err(); err != nil {
		t.Fatal(err)
	}
	if n, err := open.RunList(t.Context(), rdb, []string{keys.Tag()}, []any{"last"}).Int(); err != nil || n != 999_999 {
		t.Errorf("the last batch is %d, %v", n, err)
	}
	if n, err := open.RunList(t.Context(), rdb, []string{keys.Tag()}, []any{"one more"}).Int(); err == nil || !strings.Contains(err.Error(), "999999 batches") {
		t.Errorf("one more batch got number %d, %v", n, err)
	}
	if n, err := open.RunList(t.Context(), rdb, []string{keys.Tag()}, []any{"last"}).Int(); err != nil || n != 999_999 {
		t.Errorf("the last batch is %d afterwards, %v", n, err)
	}
	if rdb.HExists(t.Context(), keys.Batches(), "one more").Val() {
		t.Error("a batch that was refused has been named")
	}
}

// TestOneSlot asks a server which slot each key of an account is in: braces in
// an id must not move it.
func TestOneSlot(t *testing.T) {
	rdb := redistest.Start(t, "--cluster-enabled", "yes").Client(t)
	keys := keyspace.Keys{Account: "default"}
	slot := func(key string) int64 {
		n, err := rdb.ClusterKeySlot(t.Context(), key).Result()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	home := slot(keys.Tag())
	list := []string{keys.State(), keys.Results(), keys.Workers(), keys.Queued(request.Bulk), keys.Deadlines(), keys.Leader(),
		keys.Batches(), keys.Running(), keys.Batch(1), keys.Order(1), keys.Requeued(1)}
	for _, id := range []string{"A-1", "{A}", "}A{", "{", "}", "{}", "{}{B}", "{kyclink:other}"} {
		list = append(list, keys.Record(id), keys.Old(id, 1))
	}
	for _, key := range list {
		if slot(key) != home {
			t.Errorf("%s is in another slot", key)
		}
	}
}
