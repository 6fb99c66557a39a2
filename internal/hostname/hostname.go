// Package hostname returns one canonical spelling for each host, so that the host that is
// checked is the one that is connected to.
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

// Canonical returns a host name in lower case and in IDNA's ASCII form, without a dot at
// the end, or an address in its usual form; an IPv4-mapped IPv6 address becomes the IPv4
// address. IDNA's mapping is applied first: 169。254。169。254 and ①.1.1.1 are addresses to
// HTTP clients and proxies, which map them.
//
// It refuses a text that only some programs read as an address: many resolvers and proxies
// take 2130706433, 0x7f.1 and 0177.0.0.1 for 127.0.0.1.
func Canonical(host string) (string, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return address(addr)
	}
	if strings.ContainsRune(host, utf8.RuneError) { // also for invalid UTF-8, which idna accepts
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
		return "", errors.New("is neither a name nor an address in its usual form")
	}
	return name, nil
}

func address(addr netip.Addr) (string, error) {
	if addr.Zone() != "" {
		return "", errors.New("is an address with a zone, which is valid on one machine only")
	}
	return addr.Unmap().String(), nil
}

func ascii(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c > '~' })
}

// Matches reports whether a host, with or without a port, is the wanted one in any spelling.
// The ports are compared if the wanted one has a port; "" matches every host.
func Matches(host, wanted string) bool {
	if wanted == "" {
		return true
	}
	name, port := split(wanted)
	other, otherPort := split(host)
	return name == other && (port == "" || port == otherPort)
}

func split(text string) (name, port string) {
	u := &url.URL{Host: text}
	name, port = u.Hostname(), u.Port()
	if _, err := netip.ParseAddr(text); err == nil { // IPv6 without brackets
		name, port = text, ""
	}
	if canonical, err := Canonical(name); err == nil {
		name = canonical
	}
	return name, port
}

// CheckPattern returns an error if a text is not a host name; "*" means any host.
func CheckPattern(host string) error {
	if host == "*" {
		return nil
	}
	if _, err := Canonical(host); err != nil || strings.ContainsAny(host, "/@*?#") {
		return fmt.Errorf("%q is not a host name alone; list host names such as shop.example, separated by commas, or * for any", host)
	}
	return nil
}

// WrongPort describes the problem of a URL's port; "" if there is none, or if the URL has
// no port.
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
