package deploy

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
)

// example returns the first block of a language in a section of docs/operations.md.
func example(t *testing.T, section, language string) string {
	t.Helper()
	page, err := os.ReadFile("../docs/operations.md")
	must(t, err)
	_, text, found := strings.Cut(string(page), "\n## "+section+"\n")
	block := regexp.MustCompile("(?s)^.*?\n *```" + language + "\n(.*?)\n *```").FindStringSubmatch(text)
	if !found || block == nil {
		t.Fatalf("docs/operations.md has no example of %s in its section %s", language, section)
	}
	lines := strings.Split(block[1], "\n")
	indent := lines[0][:len(lines[0])-len(strings.TrimLeft(lines[0], " "))]
	for i := range lines {
		lines[i] = strings.TrimPrefix(lines[i], indent)
	}
	return strings.Join(lines, "\n")
}

func TestDocs_ValuesOfTheChartAreValid(t *testing.T) {
	t.Parallel()
	if _, err := render(t, parse(t, example(t, "Kubernetes", "yaml"))); err != nil {
		t.Error(err)
	}
}

func TestDocs_CallbacksOfUnitsAreValid(t *testing.T) {
	t.Parallel()
	more := example(t, "systemd", "ini")
	for name, file := range units() {
		unit, err := os.ReadFile("systemd/" + file)
		must(t, err)
		expectValidUnit(t, name, string(unit)+"\n"+more+"\n")
	}
}

// With another Redis, that of the compose file is not started, and nothing waits for it.
func TestDocs_ProcessesOfTheComposeFileUseAnotherRedis(t *testing.T) {
	t.Parallel()
	const elsewhere = "rediss://:invented@redis.example:6379/0"
	override := filepath.Join(t.TempDir(), "compose.override.yaml")
	must(t, os.WriteFile(override, []byte(example(t, "Docker Compose", "yaml")), 0o600))
	env := []string{"REDIS_PASSWORD=" + redisPassword, "KYCLINK_REDIS_URL=" + elsewhere}
	options, err := cli.NewProjectOptions([]string{"compose.yaml", override}, cli.WithEnv(env))
	must(t, err)
	p, err := options.LoadProject(t.Context())
	must(t, err)
	if len(p.Services) != 2 {
		t.Errorf("the services are %v, want serve and worker", p.ServiceNames())
	}
	for name, s := range p.Services {
		if got := resolved(s)["KYCLINK_REDIS_URL"]; got != elsewhere {
			t.Errorf("%s uses %s, want %s", name, got, elsewhere)
		}
		if len(s.DependsOn) != 0 {
			t.Errorf("%s depends on %v", name, s.DependsOn)
		}
	}
}
