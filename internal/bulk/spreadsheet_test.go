package bulk

import (
	"fmt"
	"testing"
)

func TestNeutralize(t *testing.T) {
	for cell, want := range map[string]string{
		"": "", "Ann": "Ann", "3-4": "3-4", "a=b": "a=b", " =1": " =1", "'=1": "'=1", "Zoë": "Zoë", "\xff=": "\xff=",
		"=1+1": "'=1+1", "+49 30": "'+49 30", "-1": "'-1", "@SUM(1)": "'@SUM(1)", "\t=1": "'\t=1", "\r=1": "'\r=1", "\n=1": "'\n=1", "＝1": "'＝1", "=": "'=",
	} {
		cells := []string{cell, "x"}
		if neutralize(cells); fmt.Sprint(cells) != fmt.Sprint([]string{want, "x"}) {
			t.Errorf("%q became %q, want %q", cell, cells[0], want)
		}
	}
}
