package deploy

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
)

// page returns the variables of docs/settings.md, which is generated from the code.
func page(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("../docs/settings.md")
	must(t, err)
	var names []string
	for _, m := range regexp.MustCompile("(?m)^\\| `((?:KYCLINK|FACEKI)_[A-Z_]+)`").FindAllStringSubmatch(string(text), -1) {
		names = append(names, m[1])
	}
	if len(names) < 20 {
		t.Fatalf("docs/settings.md has only the variables %v", names)
	}
	return names
}

// Every setting can be set in the chart: in settings, or by a value of its own.
func TestChart_KnowsEverySetting(t *testing.T) {
	t.Parallel()
	own := []string{ // set by the templates
		"KYCLINK_ACCOUNTS", "KYCLINK_REDIS_URL", "KYCLINK_REDIS_MODE", "KYCLINK_REDIS_CA", "KYCLINK_REDIS_CERT", "KYCLINK_REDIS_KEY", "FACEKI_CLIENT_ID", "FACEKI_CLIENT_SECRET", "KYCLINK_CALLBACK_SECRET",
		"KYCLINK_CALLBACK_PROXY", "KYCLINK_LISTEN", "KYCLINK_OPS_LISTEN", "KYCLINK_TLS_CERT", "KYCLINK_TLS_KEY",
	}
	content, err := os.ReadFile(filepath.Join(chartDir, "values.schema.json"))
	must(t, err)
	settings := parse(t, string(content))["properties"].(map[string]any)["settings"].(map[string]any)["properties"].(map[string]any)
	for _, name := range page(t) {
		if _, known := settings[name]; known == slices.Contains(own, name) {
			t.Errorf("%s must be either in settings of values.schema.json or set by the templates", name)
		}
		delete(settings, name)
	}
	for name := range settings {
		t.Errorf("values.schema.json permits the setting %s, which docs/settings.md does not have", name)
	}
}

// Every setting can be set in .env, or has a value in the compose file.
func TestCompose_KnowsEverySetting(t *testing.T) {
	t.Parallel()
	left := []string{ // for a Redis, a certificate or files of one's own, which need another compose file
		"KYCLINK_ACCOUNTS", "KYCLINK_REDIS_MODE", "KYCLINK_REDIS_ALLOW_EVICTION", "KYCLINK_REDIS_ALLOW_SKIP_VERIFY", "KYCLINK_REDIS_CA", "KYCLINK_REDIS_CERT",
		"KYCLINK_REDIS_KEY", "KYCLINK_TLS_CERT", "KYCLINK_TLS_KEY",
	}
	p, err := project(t, dotEnv())
	must(t, err)
	known := page(t)
	for _, name := range known {
		_, worker := p.Services["worker"].Environment[name]
		_, serve := p.Services["serve"].Environment[name]
		if !worker && !serve && !slices.Contains(left, name) {
			t.Errorf("compose.yaml does not pass %s on", name)
		}
	}
}
