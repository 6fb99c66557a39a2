package config

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

// API configures the HTTP API of serve.
type API struct {
	// Listen is host:port; port 0 takes a free one.
	Listen string `env:"KYCLINK_LISTEN, default=127.0.0.1:8080"`
	// TLSCert and TLSKey are PEM files. Both are set, or neither.
	TLSCert string `env:"KYCLINK_TLS_CERT"`
	TLSKey  string `env:"KYCLINK_TLS_KEY"`
	// MaxBody limits the body of a batch upload.
	MaxBody Size `env:"KYCLINK_MAX_BODY, default=1GiB"`
}

// Validate returns all problems, each of which names its variable.
func (a API) Validate() []error {
	var problems []error
	if !isAddress(a.Listen) {
		problems = append(problems, fmt.Errorf("KYCLINK_LISTEN is %q; use an address and a port, such as 127.0.0.1:8080, or :8080 for all addresses", a.Listen))
	}
	if a.TLSCert != "" && a.TLSKey == "" {
		problems = append(problems, fmt.Errorf("KYCLINK_TLS_KEY is missing; set it to the key of KYCLINK_TLS_CERT, or unset both"))
	}
	if a.TLSCert == "" && a.TLSKey != "" {
		problems = append(problems, fmt.Errorf("KYCLINK_TLS_CERT is missing; set it to the certificate of KYCLINK_TLS_KEY, or unset both"))
	}
	return problems
}

// TLS reports whether serve itself terminates TLS.
func (a API) TLS() bool { return a.TLSCert != "" }

// Loopback reports whether only this machine can connect.
func (a API) Loopback() bool {
	host, _, _ := net.SplitHostPort(a.Listen)
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Size is a number of bytes.
type Size int64

// Limits of a Size.
const (
	minSize = 1 << 10
	maxSize = 1 << 40
)

// EnvDecode reads a number of bytes, or a number with KiB, MiB or GiB.
func (s *Size) EnvDecode(value string) error {
	number, unit := value, int64(1)
	for suffix, bytes := range map[string]int64{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30} {
		if n, ok := strings.CutSuffix(value, suffix); ok {
			number, unit = n, bytes
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n > maxSize/unit || n*unit < minSize {
		return wrongError(fmt.Sprintf("is %q; use a size from 1KiB to 1024GiB, such as 500MiB or 1GiB", value))
	}
	*s = Size(n * unit)
	return nil
}
