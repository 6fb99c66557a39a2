package main

import "testing"

func TestVersionOf_SortsAfterTheTagBefore(t *testing.T) {
	t.Parallel()
	for described, want := range map[string]string{
		"v1.2.3-4-g0123456789ab":      "1.2.3+4.0123456789ab",
		"v1.3.0-rc.1-4-g0123456789ab": "1.3.0-rc.1+4.0123456789ab",
		"0123456789ab":                "0.0.0+0123456789ab",
	} {
		if got, err := versionOf(described, false); got != want || err != nil {
			t.Errorf("%s: got %q, %v, want %q", described, got, err, want)
		}
	}
	for tag, want := range map[string]string{"v1.2.3": "1.2.3", "v1.3.0-rc.1": "1.3.0-rc.1", "v1.2": "", "v1.2.3-4-g0123456789ab": ""} {
		if got, err := versionOf(tag, true); got != want || (err == nil) != (want != "") {
			t.Errorf("the tag %s: got %q, %v, want %q", tag, got, err, want)
		}
	}
}
