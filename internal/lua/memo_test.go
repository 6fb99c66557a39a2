package lua

import (
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/embedded"
	"github.com/kyclink/kyclink/internal/redistest"
)

// The Lua of the embedded Redis fills an array up to a whole number of less than 2^26 that is
// the key of a result.
func TestMemo_StoresNoResultThatFillsAnArray(t *testing.T) {
	t.Parallel()
	inProcess, stop, err := embedded.Redis()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	script := files(map[string]string{"script": `-- script returns which results are stored.
--
-- uses: memo
local results, stored = memo(tostring), {}
for _, x in ipairs({ -1, 0, 1, 255, 256, 60000000, 67108863, 67108865, 1796067497909, 'text' }) do
  if results[x] ~= tostring(x) then error('the result of ' .. tostring(x) .. ' is wrong') end
  if rawget(results, x) then stored[#stored + 1] = string.format('%.4s', x) end
end
return table.concat(stored, ' ')
`}).Script("script.lua")
	for name, rdb := range map[string]redis.UniversalClient{"Redis": redistest.Start(t).Client(t), "embedded Redis": inProcess} {
		if got, err := script.Run(t.Context(), rdb, []string{"{kyclink:default}"}, nil).Text(); got != "-1 0 1 255 6710 1796 text" || err != nil {
			t.Errorf("%s: results of %s are stored (%v)", name, got, err)
		}
	}
}
