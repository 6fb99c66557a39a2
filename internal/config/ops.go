package config

import (
	"fmt"
	"net"
	"strconv"
)

// Ops configures the server that reports health and metrics.
type Ops struct {
	// Listen is host:port; port 0 takes a free one.
	Listen string `env:"KYCLINK_OPS_LISTEN, default=127.0.0.1:9090"`
	// Given reports whether the address was set. It is an error then if it is in use.
	Given bool
}

// Validate returns all problems, each of which names its variable.
func (o Ops) Validate() []error {
	if !isAddress(o.Listen) {
		return []error{fmt.Errorf("KYCLINK_OPS_LISTEN is %q; use an address and a port, such as 127.0.0.1:9090, or :9090 for all addresses", o.Listen)}
	}
	return nil
}

// isAddress reports whether a text is an address to listen on.
func isAddress(text string) bool {
	_, port, err := net.SplitHostPort(text)
	_, wrong := strconv.ParseUint(port, 10, 16)
	return err == nil && wrong == nil
}

// sameAddress reports whether two servers cannot listen on these addresses at the same
// time.
func sameAddress(a, b string) bool {
	hostA, portA, _ := net.SplitHostPort(a)
	hostB, portB, _ := net.SplitHostPort(b)
	return portA == portB && portA != "0" && portA != "" && (hostA == hostB || everyAddress(hostA) || everyAddress(hostB))
}

// everyAddress reports whether a server on the host listens on all addresses.
func everyAddress(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || ip != nil && ip.IsUnspecified()
}
