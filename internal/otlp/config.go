// Package otlp sends the spans of a process to a collector, by OTLP over HTTP with protobuf.
// The standard environment variables of OpenTelemetry configure it.
//
// The exporter of OpenTelemetry itself is not used: it imports gRPC, also for HTTP.
package otlp

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Config says where spans are sent to. The zero value sends none.
type Config struct {
	Endpoint *url.URL          // nil: tracing is off
	Headers  map[string]string // of each request; secrets
	Timeout  time.Duration     // of one request
}

// On reports whether spans are sent.
func (c Config) On() bool { return c.Endpoint != nil }

const (
	prefix         = "OTEL_EXPORTER_OTLP_"
	defaultTimeout = 10 * time.Second
	tracesPath     = "v1/traces"
)

// Load reads the configuration from the environment. As OpenTelemetry specifies, an empty
// variable counts as not set, and one for traces takes precedence over the one for all
// signals. Each problem begins with its variable, and shows no value that may be a secret.
func Load(lookup func(variable string) string) (Config, []error) {
	endpoint, source := either(lookup, "ENDPOINT")
	if endpoint == "" || strings.EqualFold(lookup("OTEL_SDK_DISABLED"), "true") || lookup("OTEL_TRACES_EXPORTER") == "none" {
		return Config{}, nil
	}
	cfg := Config{Timeout: defaultTimeout}
	var problems []error
	problem := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if exporter := lookup("OTEL_TRACES_EXPORTER"); exporter != "" && exporter != "otlp" {
		problem("OTEL_TRACES_EXPORTER is %q; use otlp, or none to turn tracing off", exporter)
	}
	if protocol, name := either(lookup, "PROTOCOL"); protocol != "" && protocol != "http/protobuf" {
		problem("%s is %q; use http/protobuf, and the collector's port for it, mostly 4318", name, protocol)
	}
	if _, name := either(lookup, "CERTIFICATE"); name != "" {
		problem("%s is not supported; name the file in SSL_CERT_FILE", name)
	}
	var err error
	if cfg.Endpoint, err = parseEndpoint(endpoint, source); err != nil {
		problem("%s %w", source, err)
	}
	headers, name := either(lookup, "HEADERS")
	if cfg.Headers, err = parseHeaders(headers); err != nil {
		problem("%s %w", name, err)
	}
	if text, name := either(lookup, "TIMEOUT"); text != "" {
		ms, err := strconv.Atoi(text)
		if err != nil || ms <= 0 {
			problem("%s is %q; use a number of milliseconds, such as 10000", name, text)
		}
		cfg.Timeout = time.Duration(ms) * time.Millisecond
	}
	if len(problems) > 0 {
		return Config{}, problems
	}
	return cfg, nil
}

// either returns the value of the variable for traces or, if that is not set, of the one for
// all signals, and the name of the variable that it is from; "" if neither is set.
func either(lookup func(string) string, name string) (value, variable string) {
	for _, variable := range []string{prefix + "TRACES_" + name, prefix + name} {
		if value := strings.TrimSpace(lookup(variable)); value != "" {
			return value, variable
		}
	}
	return "", ""
}

// parseEndpoint returns the URL that spans are sent to. The endpoint of all signals is the base
// of that URL. The text may contain a password, and is not in the error.
func parseEndpoint(text, variable string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || !slices.Contains([]string{"http", "https"}, u.Scheme) {
		return nil, errors.New("is not an http or https URL; use one such as http://collector.example:4318")
	}
	if variable == prefix+"ENDPOINT" {
		return u.JoinPath(tracesPath), nil
	}
	return u, nil
}

// parseHeaders parses KEY=VALUE pairs that are separated by commas; values are percent-encoded.
func parseHeaders(text string) (map[string]string, error) {
	headers := map[string]string{}
	for pair := range strings.SplitSeq(text, ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		key, value, ok := strings.Cut(pair, "=")
		decoded, err := url.PathUnescape(strings.TrimSpace(value))
		if key = strings.TrimSpace(key); !ok || err != nil || !isToken(key) || strings.ContainsAny(decoded, "\r\n\x00") {
			return nil, errors.New("is not a list of headers; use NAME=VALUE, separated by commas, with percent-encoded values")
		}
		headers[key] = decoded
	}
	return headers, nil
}

// isToken reports whether a text can be the name of a header.
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool {
		return c <= ' ' || c > '~' || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, c)
	})
}
