package config

import (
	"fmt"
	"net"
	"strconv"
)

// Ops is where health and metrics are asked for.
type Ops struct {
	// Listen is host:port; port 0 is any that is free.
	Listen string `env:"KYCLINK_OPS_LISTEN, default=127.0.0.1:9090"`
	// Given says that somebody chose the address, and must have it.
	Given bool
}

// Validate gives all problems at once, each with its variable's name.
func (o Ops) Validate() []error {
	if !isAddress(o.Listen) {
		return []error{fmt.Errorf("KYCLINK_OPS_LISTEN is %q; use an address and a port, such as 127.0.0.1:9090, or :9090 for all addresses", o.Listen)}
	}
	return nil
}

// isAddress says whether something can be listened at.
func isAddress(text string) bool {
	_, port, err := net.SplitHostPort(text)
	_, wrong := strconv.ParseUint(port, 10, 16)
	return err == nil && wrong == nil
}

// sameAddress says that nobody can listen at both.
func sameAddress(a, b string) bool {
	hostA, portA, _ := net.SplitHostPort(a)
	hostB, portB, _ := net.SplitHostPort(b)
	return portA == portB && portA != "0" && portA != "" && (hostA == hostB || everyAddress(hostA) || everyAddress(hostB))
}

func everyAddress(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || ip != nil && ip.IsUnspecified()
}
