// Package hostname gives each host one spelling, so that what is compared, checked
// and connected to is the same.
package hostname

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// Canonical gives a host's name in lower case and as IDNA has it in ASCII, without
// the dot at the end, or its address as it is usually written; an IPv4 address in
// IPv6 is that IPv4 address. Mapping comes first: 169。254。169。254 and ①.1.1.1 are
// addresses to whoever maps them, as HTTP clients and proxies do.
//
// It refuses what is an address to some and a name to others: 2130706433, 0x7f.1 and
// 0177.0.0.1 are 127.0.0.1 to many a resolver and proxy.
func Canonical(host string) (string, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return address(addr)
	}
	if strings.ContainsRune(host, utf8.RuneError) { // or what is no UTF-8, which idna takes for it
		return "", errors.New("is not valid UTF-8")
	}
	name := strings.ToLower(host)
	if !ascii(host) {
		var err error
		if name, err = idna.Lookup.ToASCII(host); err != nil {
			return "", errors.New("is not valid")
		}
	}
	name = strings.TrimSuffix(name, ".")
	if addr, err := netip.ParseAddr(name); err == nil {
		return address(addr)
	}
	if len(name) > 253 {
		return "", errors.New("is longer than 253 characters")
	}
	var last string
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return "", errors.New("is not valid")
		}
		last = label
	}
	digits, hex := strings.CutPrefix(last, "0x")
	if strings.Trim(last, "0123456789") == "" || hex && strings.Trim(digits, "0123456789abcdef") == "" {
		return "", errors.New("is neither a name nor an address as it is usually written")
	}
	return name, nil
}

func address(addr netip.Addr) (string, error) {
	if addr.Zone() != "" {
		return "", errors.New("is an address with a zone, which means something on one machine only")
	}
	return addr.Unmap().String(), nil
}

func ascii(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c > '~' })
}

// WrongPort says what is wrong with the port of a URL; "" where nothing is, or where
// it has none.
func WrongPort(u *url.URL) string {
	text := u.Port()
	if text == "" {
		return ""
	}
	if n, err := strconv.ParseUint(text, 10, 16); err != nil || n == 0 {
		return fmt.Sprintf("names port %s; ports are from 1 to 65535", text)
	}
	return ""
}
