package operator

import (
	"testing"

	"github.com/kyclink/kyclink/internal/delivery"
)

func TestToHost_AcceptsEverySpellingOfAHost(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		host, selected string
		want           bool
	}{
		{"shop.example", "", true}, {"shop.example:8443", "shop.example", true}, {"shop.example:8443", "SHOP.example.:8443", true},
		{"shop.example", "shop.example:8443", false}, {"shop.example.evil", "shop.example", false}, {"shop.example:84430", "shop.example:8443", false},
		{"xn--bcher-kva.example", "Bücher.example", true}, {"bücher.example:1", "xn--bcher-kva.example", true},
		{"[2001:db8::1]:443", "2001:DB8:0::1", true}, {"[2001:db8:0::1]", "[2001:db8::1]", true}, {"[2001:db8::2]", "2001:db8::1", false},
	} {
		if got := toHost(delivery.Delivery{Host: tt.host}, tt.selected); got != tt.want {
			t.Errorf("a receiver at %q, selected by %q: %v", tt.host, tt.selected, got)
		}
	}
}
