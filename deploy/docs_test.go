package deploy

import (
	"os"
	"regexp"
	"strings"
	"testing"
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
