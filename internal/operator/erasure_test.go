package operator_test

import (
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/fixture/ledgertest"
	"github.com/kyclink/kyclink/internal/operator"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/tasks"
)

// fillScript adds created requests in batches of a hundred, as copies of a record, with a
// row and an event each: like many imports, but faster.
var fillScript = redis.NewScript(`
local raw = redis.call('GET', KEYS[1] .. '/FILL')
for i = tonumber(ARGV[1]), tonumber(ARGV[2]) do
  local batch, id = 100 + math.floor(i / 100), 'F-' .. i
  local own = string.sub(raw, 1, 25) .. string.format('%06d', batch) .. string.sub(raw, 32)
  redis.call('SET', KEYS[1] .. '/' .. id, (string.gsub(own, '"r":%d+}', '"r":' .. i % 100 + 1 .. '}')))
  redis.call('HSETNX', KEYS[1] .. ':order:' .. batch, 0, '0\n')
  redis.call('HSET', KEYS[1] .. ':order:' .. batch, 0, redis.call('HGET', KEYS[1] .. ':order:' .. batch, 0) .. (i % 100 + 1) .. ' ' .. id .. '\n')
  redis.call('HSET', KEYS[1] .. ':batch:' .. batch, 'name', 'f-' .. batch, 'last', 0, 'created', i % 100 + 1, 'cursor', 1, 'created_at', 1)
  redis.call('HSET', KEYS[1] .. ':batches', 'f-' .. batch, batch)
  redis.call('ZADD', KEYS[1] .. ':numbered', batch, batch)
  redis.call('XADD', KEYS[1] .. ':results', '*', 'id', id, 'type', 'link.created', 'application_id', id, 'data', '{}')
end
redis.call('HSET', KEYS[1] .. ':account', 'batches', 100 + math.floor(ARGV[2] / 100))
return 1`)

// TestErasure_CostsTheSameInALargeAccount erases a request with an own row, rows in two other
// batches and two events, among 1,000 and among 50,000 others.
func TestErasure_CostsTheSameInALargeAccount(t *testing.T) {
	type cost struct{ commands, bytes int }
	var costs []cost
	for _, others := range []int{1000, 50_000} {
		h := ledgertest.NewOn(t, redistest.Start(t)) // whose counters no other test changes
		h.Import("spring", []tasks.Request{{ApplicationID: "FILL"}, {ApplicationID: "A-1"}, {ApplicationID: "A-2"}})
		h.Import("autumn", []tasks.Request{{ApplicationID: "A-1"}, {ApplicationID: "N-1"}})
		h.Import("winter", []tasks.Request{{ApplicationID: "N-2"}, {ApplicationID: "A-1"}})
		h.Finish(h.Feed(), "created", "created", "created", "created", "created")
		for from := 0; from < others; from += 1000 {
			h.Must(fillScript.Run(t.Context(), h.Redis, []string{h.Keys.Tag()}, from, from+999).Err())
		}
		forget := func(id string) operator.Erased {
			e, err := operator.New(h.Redis, h.Keys.Account).Erasure(t.Context(), []string{id}, "")
			h.Must(err)
			h.Must(e.Run(t.Context()))
			return e.Erased()
		}
		forget("A-2") // loads the scripts
		var erased operator.Erased
		commands, bytes := h.Work(func() { erased = forget("A-1") })
		if want := (operator.Erased{Requests: 1, Generations: 1, Rows: 3, Events: 1}); erased != want {
			t.Errorf("among %d others, %+v was erased; want %+v", others, erased, want)
		}
		if others > 1000 {
			costs = append(costs, cost{commands, bytes})
			continue
		}
		for key, value := range h.Dump() {
			if strings.Contains(key+value, "A-1") {
				t.Errorf("%s still names the request: %.200s", key, value)
			}
		}
		costs = append(costs, cost{commands, bytes})
	}
	t.Logf("commands and bytes: %v", costs)
	if few, many := costs[0], costs[1]; many.commands > few.commands || many.bytes > few.bytes*11/10 {
		t.Errorf("among 1,000 others it takes %d commands and %d bytes, among 50,000 %d and %d",
			few.commands, few.bytes, many.commands, many.bytes)
	}
}
