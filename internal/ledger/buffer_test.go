package ledger

import (
	"encoding/json"
	"fmt"
	"reflect"
	"testing"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/kyclink/kyclink/internal/redistest"
)

// sends sends the commands of its argument, and returns the replies to those that read.
const sends = `
local READS = { GET = true, GETRANGE = true, ZSCORE = true, ZRANGE = true, HGET = true, HMGET = true, EXISTS = true,
  LRANGE = true, LPOP = true }
local replies = {}
for _, command in ipairs(cjson.decode(ARGV[1])) do
  local ok, reply = pcall(redis.call, unpack(command))
  if not ok then reply = 'an error' end
  if READS[command[1]] or not ok then replies[#replies + 1] = cjson.encode(reply) end
end
`

// Whatever commands follow each other, they read and leave the same as without the buffer.
func TestBuffer_ChangesOnlyWhenCommandsAreSent(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client(t)
	buffered := scripts.Text("buffered.lua", "-- uses: buffer\nif ARGV[2] then read_records({ ARGV[2], ARGV[3] }) end\n"+sends+"send_collected()\nreturn replies")
	direct := redis.NewScript(sends + "return replies")
	rapid.Check(t, func(rt *rapid.T) {
		ctx := t.Context()
		key := rapid.SampledFrom([]string{"a", "b"})
		member := rapid.SampledFrom([]string{"x", "y", "z"})
		n := rapid.IntRange(1, 9)
		command := rapid.Custom(func(rt *rapid.T) []any {
			k, m := key.Draw(rt, "key"), member.Draw(rt, "member")
			return rapid.SampledFrom([][]any{
				{"GET", "record:" + k}, {"SET", "record:" + k, fmt.Sprint("text", n.Draw(rt, "n"))}, {"SETRANGE", "record:" + k, 0, m},
				{"GETRANGE", "record:" + k, 0, 2}, {"DEL", "record:" + k}, {"SETRANGE", "record:" + k, 2, m}, {"SET", "record:" + k, m, "NX"},
				{"ZADD", "set:" + k, n.Draw(rt, "score"), m}, {"ZADD", "set:" + k, "NX", n.Draw(rt, "score"), m}, {"ZREM", "set:" + k, m},
				{"ZADD", "set:" + k, 1, m, 2, "w"}, {"ZSCORE", "set:" + k, m}, {"ZRANGE", "set:" + k, 0, -1, "WITHSCORES"},
				{"HINCRBY", "hash:" + k, m, n.Draw(rt, "by")}, {"HGET", "hash:" + k, m}, {"HSET", "hash:" + k, m, n.Draw(rt, "by")},
				{"HMGET", "hash:" + k, "x", "y"}, {"EXISTS", "record:" + k},
				{"RPUSH", "list:" + k, m}, {"RPUSH", "list:" + k, m, "w"}, {"LPUSH", "list:" + k, m}, {"LRANGE", "list:" + k, 0, -1}, {"LPOP", "list:" + k},
			}).Draw(rt, "command")
		})
		list, err := json.Marshal(rapid.SliceOfN(command, 1, 20).Draw(rt, "commands"))
		if err != nil {
			rt.Fatal(err)
		}
		begin := func() {
			rdb.FlushDB(ctx)
			rdb.Set(ctx, "record:a", "first", 0)
			rdb.ZAdd(ctx, "set:a", redis.Z{Score: 5, Member: "x"})
			rdb.HSet(ctx, "hash:a", "x", 5)
			rdb.RPush(ctx, "list:a", "x")
		}
		end := func() (all []any) {
			for _, k := range []string{"a", "b"} {
				all = append(all, rdb.Get(ctx, "record:"+k).Val(), rdb.ZRangeWithScores(ctx, "set:"+k, 0, -1).Val(), rdb.HGetAll(ctx, "hash:"+k).Val(),
					rdb.LRange(ctx, "list:"+k, 0, -1).Val())
			}
			return all
		}
		begin()
		want, err := direct.Run(ctx, rdb, []string{"k"}, list).Result()
		if err != nil {
			rt.Fatal(err)
		}
		after := end()
		args := []any{list}
		if rapid.Bool().Draw(rt, "read before") {
			args = append(args, "record:a", "record:b")
		}
		begin()
		got, err := buffered.RunList(ctx, rdb, []string{"k"}, args).Result()
		if err != nil {
			rt.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			rt.Errorf("read %v, and %v without the buffer", got, want)
		}
		if left := end(); !reflect.DeepEqual(left, after) {
			rt.Errorf("left %v, and %v without the buffer", left, after)
		}
	})
}
