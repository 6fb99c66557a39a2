package doctest

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`^#{1,6}\s+(.*)$`)
)

func TestLinks_LeadToFilesAndHeadings(t *testing.T) {
	root := Root(t)
	pages := Pages(t)
	headings := map[string]map[string]bool{}
	for _, p := range pages {
		headings[p.Path] = anchors(p)
	}
	checked := 0
	for _, p := range pages {
		for i, line := range p.Prose() {
			for _, m := range link.FindAllStringSubmatch(line, -1) {
				if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
					continue
				}
				checked++
				file, anchor, _ := strings.Cut(m[1], "#")
				target := p.Path
				if file != "" {
					target = path.Join(path.Dir(p.Path), file)
				}
				if _, err := os.Stat(filepath.Join(root, filepath.FromSlash(target))); err != nil {
					t.Errorf("%s:%d: link to %s: no such file", p.Path, i+1, m[1])
				} else if anchor != "" && !headings[target][anchor] {
					t.Errorf("%s:%d: link to %s: no such heading", p.Path, i+1, m[1])
				}
			}
		}
	}
	if checked < 20 {
		t.Errorf("checked %d links only", checked)
	}
}

// anchors are the names that GitHub gives to the headings of a page.
func anchors(p Page) map[string]bool {
	found := map[string]bool{}
	within := false
	for line := range strings.SplitSeq(p.Text, "\n") {
		if fence.MatchString(line) {
			within = !within
		}
		if m := heading.FindStringSubmatch(line); m != nil && !within {
			found[anchor(m[1])] = true
		}
	}
	return found
}

func anchor(heading string) string {
	heading = link.ReplaceAllString(heading, "]")
	return strings.Map(func(c rune) rune {
		switch {
		case c == ' ':
			return '-'
		case c == '-' || c == '_' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c > 127 && c != '…':
			return c
		}
		return -1
	}, strings.ToLower(heading))
}

// ourPath is a path of this module in a span of code.
var ourPath = regexp.MustCompile(`^(cmd|internal|tasks|worker|docs|deploy|\.ci|\.github)/[\w./-]+$`)

func TestPaths_Exist(t *testing.T) {
	root := Root(t)
	for _, p := range Pages(t) {
		for _, c := range p.Code() {
			if !c.Inline || !ourPath.MatchString(c.Text) {
				continue
			}
			if _, err := os.Stat(filepath.Join(root, filepath.FromSlash(c.Text))); err != nil {
				t.Errorf("%s:%d: %s: no such file or directory", p.Path, c.Line, c.Text)
			}
		}
	}
}

// TestArchitecture_NamesEveryPackage compares the tables of packages with the module.
func TestArchitecture_NamesEveryPackage(t *testing.T) {
	root := Root(t)
	named := map[string]bool{}
	for _, p := range Pages(t) {
		if p.Path != "docs/architecture.md" {
			continue
		}
		for _, c := range p.Code() {
			named[c.Text] = true
		}
	}
	for _, dir := range []string{"cmd", "internal", "tasks", "worker"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(file string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() || filepath.Ext(file) != ".go" {
				return err
			}
			pkg, err := filepath.Rel(root, filepath.Dir(file))
			if err == nil && !named[filepath.ToSlash(pkg)] && !strings.Contains(pkg, "testdata") {
				named[filepath.ToSlash(pkg)] = true // reported once
				t.Errorf("docs/architecture.md does not name the package %s", pkg)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
