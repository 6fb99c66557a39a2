package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"
)

// CheckRedirectHost says why no redirect_url can lead to a host; "*" is any host.
func CheckRedirectHost(host string) error {
	if _, err := netip.ParseAddr(host); err == nil || host == "*" {
		return nil
	}
	u, err := url.Parse("https://" + host + "/")
	if err != nil || host == "" || u.Host != host || strings.ContainsAny(host, "*:") {
		return fmt.Errorf("%q is not a host name alone; list host names such as shop.example, separated by commas, or * for any", host)
	}
	return nil
}
