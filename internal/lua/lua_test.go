package lua

import (
	"strings"
	"testing"
)

// A script carries what it uses of the libraries, in their order, and nothing
// else, whatever looks like a name in strings, comments and fields.
func TestScriptsCarryWhatTheyUse(t *testing.T) {
	first := `-- about one, and two
local one = 1
local function two(x)
  -- four is not meant
  return x .. h.four .. 'four "four" it\'s four' .. "four 'four" -- four
end
local three, third = 3, { four = 4 }
local four = 'four'
local function sum() return one +three end
`
	second := `local five = two and 'it is not known yet'
local function six() return sum() ..four end
`
	for lua, want := range map[string]string{
		"return 1":                      "",
		"return one":                    "one",
		"return two(1)":                 "two",
		"return third":                  "three",
		"return h.two + h.six('two()')": "",
		"return sum() -- two":           "one three sum",
		"return six()":                  "one three four sum six",
		"return five":                   "two five",
	} {
		var names []string
		composed := compose(lua, first, second)
		for line := range strings.Lines(composed) {
			if declared := declares.FindStringSubmatch(line); declared != nil {
				names = append(names, strings.Split(declared[1], ",")[0])
			}
		}
		if got := strings.Join(names, " "); got != want || !strings.HasSuffix(composed, lua) {
			t.Errorf("%q carries %q, want %q", lua, got, want)
		}
	}
}
