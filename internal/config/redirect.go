package config

import (
	"fmt"
	"strings"

	"github.com/kyclink/kyclink/internal/hostname"
)

// CheckRedirectHost returns an error if a text is not a host name; "*" means any host.
func CheckRedirectHost(host string) error {
	if host == "*" {
		return nil
	}
	if _, err := hostname.Canonical(host); err != nil || strings.ContainsAny(host, "/@*?#") {
		return fmt.Errorf("%q is not a host name alone; list host names such as shop.example, separated by commas, or * for any", host)
	}
	return nil
}
