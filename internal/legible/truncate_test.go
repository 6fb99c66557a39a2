package legible

import (
	"strings"
	"testing"
)

func TestTruncate_CountsCharacters(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", ""}, {"abc", "abc"}, {"abcd", "abc…"}, {"äöü", "äöü"}, {"äöüß", "äöü…"},
	} {
		if got := Truncate(c.text, 3); got != c.want {
			t.Errorf("%q: got %q, want %q", c.text, got, c.want)
		}
	}
	if got := Shorten(strings.Repeat("ö", 129)); got != strings.Repeat("ö", 128)+"…" {
		t.Errorf("a text of 129 characters was shortened to %q, want 128 and an ellipsis", got)
	}
}
