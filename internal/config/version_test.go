package config

import "testing"

func TestTooOld_RefusesVersionsBefore6_2(t *testing.T) {
	for version, want := range map[string]bool{
		"5.0.14": true, "6.0.16": true, "6.2.0": false, "7.0.15": false, "8.2.1": false, "10.0": false, "": false, "unstable": false,
	} {
		if got := tooOld(version); got != want {
			t.Errorf("version %q: got too old %t, want %t", version, got, want)
		}
	}
}
