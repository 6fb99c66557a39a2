package lua

import (
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/embedded"
	"github.com/kyclink/kyclink/internal/redistest"
)

// The Lua of the embedded Redis reads a text that begins with 0 as octal in arithmetic, but
// not in tonumber.
func TestHeader_HasDecimalNumbers(t *testing.T) {
	t.Parallel()
	inProcess, stop, err := embedded.Redis()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	script := files(map[string]string{"script": `-- script parses headers, and returns what differs after they were formatted again.
--
-- uses: keys, record
local wrong = {}
for _, raw in ipairs({
  '2cb-' .. '010' .. '011' .. '0012' .. '00013' .. '14' .. '0015' .. '000016' .. '0000000017' .. '1796067497909' .. '1796067498249' .. '074636' .. '-',
  '1qix' .. '001' .. '001' .. '0777' .. '01000' .. '08' .. '0010' .. '001234' .. '0123456701' .. '1796067497909' .. '1796067498249' .. '000100' .. 'd',
}) do
  local again = format_header(parse_header(raw))
  if again ~= raw then wrong[#wrong + 1] = raw .. ' becomes ' .. again end
end
local new = parse_header('n' .. '000123' .. '1796067497909')
if new.batch ~= 123 then wrong[#wrong + 1] = 'batch 000123 is ' .. new.batch end
return wrong
`}).Script("script.lua")
	for name, rdb := range map[string]redis.UniversalClient{"Redis": redistest.Start(t).Client(t), "embedded Redis": inProcess} {
		wrong, err := script.Run(t.Context(), rdb, []string{"{kyclink:default}"}, nil).StringSlice()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, text := range wrong {
			t.Errorf("%s: %s", name, text)
		}
	}
}
