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

// script returns a Lua script that uses the given libraries.
func script(text string, uses ...string) *lua.Script {
	return lua.NewPackage("test", fstest.MapFS{}).Text("test.lua", "-- uses: "+strings.Join(uses, ", ")+"\n"+text)
}

func TestLua_WritesRecordsByteForByteAsGoDoes(t *testing.T) {
	rdb, tag := fixture.Redis().Client(t), []string{keyspace.Keys{Account: redistest.Account()}.Tag()}
	header := script(`return format_header(parse_header(ARGV[1]))`, "record")
	whole := script(`
		local content, resolved, outcome, earlier = sections(ARGV[1])
		write_record(tag .. '/A-1', parse_header(ARGV[1]), content, resolved, outcome, earlier)
		return redis.call('GET', tag .. '/A-1')`, "keys", "record")
	rapid.Check(t, func(rt *rapid.T) {
		raw, err := drawRecord(rt).Encode()
		if err != nil {
			rt.Fatal(err)
		}
		got, err := header.RunList(t.Context(), rdb, tag, []any{raw}).Text()
		if err != nil || got != string(raw[:request.HeaderLen]) {
			rt.Fatalf("Lua wrote the header\n%s, %v; Go wrote\n%s", got, err, raw[:request.HeaderLen])
		}
		got, err = whole.RunList(t.Context(), rdb, tag, []any{raw}).Text()
		if err != nil || got != string(raw) {
			rt.Fatalf("Lua wrote the record\n%s, %v; Go wrote\n%s", got, err, raw)
		}
	})
}

// A value that is too wide for its column is capped if it is a counter, as in Go. Any
// other is an error that leaves the record unchanged.
func TestLua_CapsCountersAndRefusesOtherValuesThatExceedTheirColumn(t *testing.T) {
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
		local h = load_header('A-1')
		for i = 2, #ARGV, 2 do h[ARGV[i]] = tonumber(ARGV[i + 1]) end
		save_header(tag .. '/A-1', h)`, "keys", "record")
	raw, err := full().Encode()
	if err != nil {
		t.Fatal(err)
	}
	err = set.RunList(t.Context(), rdb, tag, []any{raw, "attempts", 1e6, "charged", 1e6, "dups", 1e6, "seen", 1e11}).Err()
	if got := rdb.Get(t.Context(), key).Val(); !errors.Is(err, redis.Nil) || got != string(want) {
		t.Errorf("Lua stored the counters as\n%s, %v; Go writes\n%s", got, err, want)
	}
	for _, name := range []string{"gen", "run", "turn", "batch", "holder", "accepted", "changed"} {
		err := set.RunList(t.Context(), rdb, tag, []any{raw, name, 1e14}).Err()
		if got := rdb.Get(t.Context(), key).Val(); err == nil || !strings.Contains(err.Error(), "too large for its column") || got != string(raw) {
			t.Errorf("%s of 1e14: got error %v and record %s; want an error and the record unchanged", name, err, got)
		}
	}
	raw[0] = '9'
	if err := set.RunList(t.Context(), rdb, tag, []any{raw}).Err(); err == nil || !strings.Contains(err.Error(), "unknown version") {
		t.Errorf("a record of version 9: got %v, want an error that names its version", err)
	}
}

// A header is changed in the version in which it is stored, and a new record gets the header
// that Go writes, before the same content.
func TestLua_ChangesHeadersOfEachVersion(t *testing.T) {
	rdb, tag := fixture.Redis().Client(t), []string{keyspace.Keys{Account: redistest.Account()}.Tag()}
	change := script(`
		redis.call('SET', tag .. '/A-1', ARGV[1])
		local h, why = load_readable('A-1')
		if not h then return why end
		h.state, h.turn = 'q', h.turn + 1
		save_header(tag .. '/A-1', h)
		h.turn = h.turn + 1
		save_header(tag .. '/A-1', h)
		return redis.call('GET', tag .. '/A-1') .. ' ' .. batch_row(redis.call('GET', tag .. '/A-1')) .. ' ' .. (batch_row(ARGV[1]))`,
		"keys", "record", "readable")
	r, err := request.Parse("A-1", []byte(newRecord))
	if err != nil {
		t.Fatal(err)
	}
	r.State, r.Turn = request.Queued, 2
	want, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, stored := range [][2]string{
		{newRecord, string(want) + " 7 7"},
		{string(version1(t, []byte(newRecord))), string(version1(t, want)) + " 7 7"},
		{"n00000", "poison"}, {"n00000-1790000000123{}", "poison"}, {"m0000081790000000123{}", "newer"},
	} {
		if got, err := change.RunList(t.Context(), rdb, tag, []any{stored[0]}).Text(); err != nil || got != stored[1] {
			t.Errorf("%s became\n%s, %v; want\n%s", stored[0], got, err, stored[1])
		}
	}
}

func TestTurn_StartsAgainAtZeroAfter9999(t *testing.T) {
	rdb, tag := fixture.Redis().Client(t), []string{keyspace.Keys{Account: redistest.Account()}.Tag()}
	r := full()
	r.Turn = 9999
	raw, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := script(`local h = parse_header(ARGV[1]) enqueue(h, 'A-1') return format_header(h)`, "record", "turn").RunList(t.Context(), rdb, tag, []any{raw}).Text()
	if err != nil {
		t.Fatal(err)
	}
	if now, err := request.Parse("A-1", []byte(got)); err != nil || now.Turn != 0 || now.State != request.Queued {
		t.Errorf("after turn 9999: got turn %d in state %s, %v; want 0, queued", now.Turn, now.State, err)
	}
}

func TestBatchNumber_IsRefusedBeyondTheHighest(t *testing.T) {
	keys := keyspace.Keys{Account: redistest.Account()}
	rdb, open := fixture.Redis().Client(t), script(`return batch_number(ARGV[1])`, "batch_number")
	if err := rdb.HSet(t.Context(), keys.State(), "batches", 999_998).Err(); err != nil {
		t.Fatal(err)
	}
	if n, err := open.RunList(t.Context(), rdb, []string{keys.Tag()}, []any{"last"}).Int(); err != nil || n != 999_999 {
		t.Errorf("the last batch got number %d, %v; want 999999", n, err)
	}
	if n, err := open.RunList(t.Context(), rdb, []string{keys.Tag()}, []any{"one more"}).Int(); err == nil || !strings.Contains(err.Error(), "999999 batches") {
		t.Errorf("one more batch got number %d, %v", n, err)
	}
	if n, err := open.RunList(t.Context(), rdb, []string{keys.Tag()}, []any{"last"}).Int(); err != nil || n != 999_999 {
		t.Errorf("after the refusal the last batch has number %d, %v; want 999999", n, err)
	}
	if rdb.HExists(t.Context(), keys.Batches(), "one more").Val() {
		t.Error("the refused batch is in the list of names")
	}
}

func TestKeys_ShareOneClusterSlotWhenIDsContainBraces(t *testing.T) {
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
			t.Errorf("key %s is in slot %d, want %d", key, slot(key), home)
		}
	}
}
