package column

import (
	"fmt"
	"testing"

	"github.com/kyclink/kyclink/tasks"
)

// Every name that is taken for a key is its own, and nothing nearly another's.
func TestKey_HasDistinctAliases(t *testing.T) {
	seen := make(map[string]string)
	for _, key := range tasks.Keys() {
		for _, name := range append([]string{Fold(key)}, aliases[key]...) {
			if other, twice := seen[name]; twice || name != Fold(name) {
				t.Errorf("%s is of %s and %s", name, key, other)
			}
			seen[name] = key
			if got := NearKey(name); got != "" {
				t.Errorf("%s is nearly %s", name, got)
			}
		}
	}
	for _, key := range []string{"lane"} {
		for name, want := range map[string]string{"lnae": key, "lanes": key, "name": "", "date": "", "zone": "", "plane": key} {
			if got := NearKey(name); got != want {
				t.Errorf("%s is nearly %q", name, got)
			}
		}
	}
}

func TestEscapeFormulas_QuotesOnlyCellsThatASpreadsheetEvaluates(t *testing.T) {
	for cell, want := range map[string]string{
		"": "", "Ann": "Ann", "3-4": "3-4", "a=b": "a=b", " =1": " =1", "'=1": "'=1", "Zoë": "Zoë", "\xff=": "\xff=",
		"=1+1": "'=1+1", "+49 30": "'+49 30", "-1": "'-1", "@SUM(1)": "'@SUM(1)", "\t=1": "'\t=1", "\r=1": "'\r=1", "\n=1": "'\n=1", "＝1": "'＝1", "=": "'=",
	} {
		cells := []string{cell, "x"}
		if EscapeFormulas(cells); fmt.Sprint(cells) != fmt.Sprint([]string{want, "x"}) {
			t.Errorf("%q became %q, want %q", cell, cells[0], want)
		}
	}
}
