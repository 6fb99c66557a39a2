package hostname

import (
	"net/netip"
	"net/url"
	"strings"
	"testing"
)

func TestCanonical_NormalizesHostsAndRefusesInvalidOnes(t *testing.T) {
	for host, want := range map[string]string{
		"shop.example": "shop.example", "SHOP.Example.": "shop.example", "my_host-1.internal": "my_host-1.internal", "localhost": "localhost",
		"Bücher.example": "xn--bcher-kva.example", "xn--bcher-kva.example": "xn--bcher-kva.example", "BÜCHER.EXAMPLE": "xn--bcher-kva.example",
		"ｓｈｏｐ。ｅｘａｍｐｌｅ": "shop.example", "shop.example。": "shop.example", "faß.example": "xn--fa-hia.example",
		"10.1.2.3": "10.1.2.3", "10.1.2.3.": "10.1.2.3", "::ffff:10.1.2.3": "10.1.2.3", "2001:0DB8:0:0::0001": "2001:db8::1", "::1": "::1",
		"169。254。169。254": "169.254.169.254", "①②⑦.0.0.1": "127.0.0.1", "１２７.０.０.１": "127.0.0.1", "169｡254．169.254": "169.254.169.254",
		"0xface.example": "0xface.example", "1.2.3.4.example": "1.2.3.4.example",
	} {
		if got, err := Canonical(host); got != want || err != nil {
			t.Errorf("%q: got %q, %v; want %q", host, got, err, want)
		}
	}
	for _, host := range []string{
		"", ".", "。", "a..b", ".example", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "127.0.0.0x1", "２１３０７０６４３３", "⓪x7f.1", "0ｘ7f.1",
		"a b.example", "shop.example/", "shop.example:443", "[::1]", "fe80::1%eth0", "*.example", "a\x00b.example", "a%2eb", "user@host",
		"\xff.example", "a\u200db.example", strings.Repeat("a", 64) + ".example", strings.Repeat("a.", 127) + "example", "пример\u202e.example",
	} {
		if got, err := Canonical(host); err == nil {
			t.Errorf("%q: got %q, want an error", host, got)
		}
	}
}

// FuzzCanonical checks that the result is ASCII, is its own canonical form, and is no other spelling of an address.
func FuzzCanonical(f *testing.F) {
	for _, host := range []string{"shop.example", "169。254。169。254", "①②⑦.0.0.1", "::ffff:1.2.3.4", "Bücher.example.", "xn--a.example"} {
		f.Add(host)
	}
	f.Fuzz(func(t *testing.T, host string) {
		got, err := Canonical(host)
		if err != nil {
			return
		}
		if again, err := Canonical(got); again != got || err != nil {
			t.Errorf("%q became %q, which became %q, %v", host, got, again, err)
		}
		if strings.ContainsFunc(got, func(c rune) bool { return c <= ' ' || c > '~' || c >= 'A' && c <= 'Z' }) {
			t.Errorf("%q became %q, which contains other characters than lower-case ASCII", host, got)
		}
		if addr, err := netip.ParseAddr(got); err == nil && addr.String() != got {
			t.Errorf("%q became %q, which is another spelling of %s", host, got, addr)
		}
	})
}

func TestWrongPort_RefusesPortsOutsideTheRange(t *testing.T) {
	for text, wrong := range map[string]bool{
		"https://shop.example": false, "https://shop.example:": false, "https://shop.example:1": false, "https://[::1]:65535/": false,
		"https://shop.example:0": true, "https://shop.example:65536/": true, "https://shop.example:18446744073709551617/": true,
	} {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := WrongPort(u); (got != "") != wrong {
			t.Errorf("%s: got problem %q, want one: %t", text, got, wrong)
		}
	}
}

func TestMatches_AcceptsEverySpellingOfAHost(t *testing.T) {
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
		if got := Matches(tt.host, tt.selected); got != tt.want {
			t.Errorf("host %q, wanted %q: got %v", tt.host, tt.selected, got)
		}
	}
}
