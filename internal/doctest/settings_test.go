package doctest

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/kyclink/kyclink/internal/config"
)

var variable = regexp.MustCompile(`\b(KYCLINK|FACEKI|REDIS)_[A-Z][A-Z0-9_]*`)

func TestSettings_NamedInPagesExist(t *testing.T) {
	known := map[string]bool{"REDIS_PASSWORD": true, "KYCLINK_VERSION": true} // of deploy/.env.example
	for _, s := range config.Settings() {
		known[s.Name] = true
		known[s.Name+"_FILE"] = s.File
	}
	for _, p := range Pages(t) {
		for i, line := range strings.Split(p.Text, "\n") {
			for _, name := range variable.FindAllString(line, -1) {
				if !known[name] {
					t.Errorf("%s:%d: %s is not a setting", p.Path, i+1, name)
				}
			}
		}
	}
}

const settingsIntro = `# Settings

*Generated from ` + "`internal/config/settings.go`" + `; do not edit.*

Settings come from environment variables. A command checks the variables that it uses, reports all problems at once and exits with code 78 before it
does anything. An empty value is an error. An unknown ` + "`KYCLINK_…` or `FACEKI_…`" + ` variable causes a warning that names the nearest one.

Durations are numbers with units, such as ` + "`15s`, `2m` or `720h`" + `. The value of a variable marked † may come from a file instead: append
` + "`_FILE`" + ` to the name, and give the path, as in ` + "`FACEKI_CLIENT_SECRET_FILE=/run/secrets/faceki`" + `.
`

const settingsEnd = `
## Variables of the system

| variable | effect |
| --- | --- |
| ` + "`HTTPS_PROXY`, `NO_PROXY`" + ` | HTTP proxy for calls to FaceKi, such as ` + "`http://user:password@proxy.example:3128`" + `, and hosts that it is not used for. It is never used for loopback addresses. |
| ` + "`SSL_CERT_FILE`" + ` | PEM file with the certificates to trust, for example that of a proxy that opens TLS connections. |
| ` + "`OTEL_EXPORTER_OTLP_ENDPOINT`" + `, ` + "`OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`" + ` | Collector that [traces](operations.md#tracing) are sent to, by OTLP over HTTP with protobuf. Without it tracing is off. |
| ` + "`OTEL_EXPORTER_OTLP_HEADERS`" + `, ` + "`OTEL_EXPORTER_OTLP_TIMEOUT`" + ` | Headers for the collector (` + "`NAME=VALUE`" + `, separated by commas), and the limit of one request in milliseconds (10000). Both also with ` + "`_TRACES_`" + `. |
| ` + "`OTEL_TRACES_SAMPLER`, `OTEL_TRACES_SAMPLER_ARG`" + ` | What is sampled; all by default. ` + "`OTEL_BSP_…`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_SERVICE_NAME`, `OTEL_SDK_DISABLED`" + ` have their standard meaning, too. |
| ` + "`GOGC`, `GOMAXPROCS`, `GOMEMLIMIT`" + ` | As for every Go program. The default of ` + "`GOGC`" + ` is 400 here, and an import uses half of the processors. |
`

func TestSettings_PageMatchesCode(t *testing.T) {
	var page strings.Builder
	page.WriteString(settingsIntro)
	group := ""
	for _, s := range config.Settings() {
		if s.Group != group {
			group = s.Group
			fmt.Fprintf(&page, "\n## %s\n\n| variable | default | |\n| --- | --- | --- |\n", group)
		}
		mark := ""
		if s.File {
			mark = " †"
		}
		fmt.Fprintf(&page, "| `%s`%s | %s | %s |\n", s.Name, mark, shownDefault(s.Default), strings.ReplaceAll(s.Text, "|", `\|`))
	}
	page.WriteString(settingsEnd)
	Generated(t, "docs/settings.md", page.String())
}

// shownDefault puts the value of a default in a code span, and leaves what follows it.
func shownDefault(text string) string {
	value, more, _ := strings.Cut(text, " (")
	switch {
	case text == "":
		return "none"
	case text == "any" || text == "no limit":
		return text
	case more != "":
		more = " (" + more
	}
	return "`" + value + "`" + more
}
