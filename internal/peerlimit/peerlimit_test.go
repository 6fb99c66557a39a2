package peerlimit

import (
	"net/netip"
	"testing"
)

func TestLimits_ShareALimitWithinAnIPv6Network(t *testing.T) {
	r := New(1, 1)
	shared := func(a, b string) bool { return r.Of(netip.MustParseAddr(a)) == r.Of(netip.MustParseAddr(b)) }
	if !shared("2001:db8::1", "2001:db8::2") || !shared("192.0.2.1", "::ffff:192.0.2.1") || !shared("fe80::1%eth0", "fe80::2%eth1") {
		t.Error("addresses of one network, or spellings of one address, have different limits")
	}
	differ := 0
	for _, b := range []string{"192.0.2.2", "192.0.2.3", "192.0.2.4", "2001:db8:0:1::1"} {
		if !shared("192.0.2.1", b) {
			differ++
		}
	}
	if differ < 3 {
		t.Errorf("%d of 4 different addresses have their own limit, want at least 3", differ)
	}
}
