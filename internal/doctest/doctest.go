// Package doctest checks the documentation: links, settings, paths and names of
// functions, and whether the generated pages match the code. What other packages'
// tests need for their part of it is exported; nothing else imports the package.
package doctest

import (
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update-docs", false, "write the generated pages instead of comparing them")

// Root is the directory of the module, as the tests of a package see it.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	for ; err == nil; dir = filepath.Dir(dir) {
		if _, missing := os.Stat(filepath.Join(dir, "go.mod")); missing == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			break
		}
	}
	t.Fatalf("find go.mod: %v", err)
	return ""
}

// Page is one Markdown file.
type Page struct {
	Path string // relative to the root, with slashes
	Text string
}

// Pages returns all Markdown files of the module.
func Pages(t testing.TB) []Page {
	t.Helper()
	root := Root(t)
	var pages []Page
	for _, start := range []string{"*.md", "docs", ".github", "deploy"} {
		matches, err := filepath.Glob(filepath.Join(root, start))
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range matches {
			err := filepath.WalkDir(match, func(path string, _ fs.DirEntry, err error) error {
				if err != nil || filepath.Ext(path) != ".md" {
					return err
				}
				text, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				name, err := filepath.Rel(root, path)
				pages = append(pages, Page{filepath.ToSlash(name), string(text)})
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(pages) < 10 {
		t.Fatalf("found %d pages only", len(pages))
	}
	return pages
}

// Generated compares a page with what the code generates, or writes it with the flag
// -update-docs.
func Generated(t testing.TB, path, content string) {
	t.Helper()
	file := filepath.Join(Root(t), filepath.FromSlash(path))
	if *update {
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != content {
		t.Errorf("%s does not match the code: run make docs", path)
	}
}

// Code is a piece of code in a page.
type Code struct {
	// Language is that of a fenced block, "" where it names none.
	Language string
	// Inline reports whether it is a span within a line.
	Inline bool
	Text   string
	Line   int // the first one of a block
}

var (
	fence  = regexp.MustCompile("^\\s*```+\\s*(\\S*)")
	inline = regexp.MustCompile("``?([^`]+)``?")
)

// Code returns the fenced blocks and the inline spans of the page.
func (p Page) Code() []Code {
	var found []Code
	var block *Code
	for i, line := range strings.Split(p.Text, "\n") {
		mark := fence.FindStringSubmatch(line)
		switch {
		case mark != nil && block == nil:
			block = &Code{Language: mark[1], Line: i + 2}
		case mark != nil:
			found = append(found, *block)
			block = nil
		case block != nil:
			block.Text += line + "\n"
		default:
			for _, span := range inline.FindAllStringSubmatch(line, -1) {
				found = append(found, Code{Inline: true, Text: span[1], Line: i + 1})
			}
		}
	}
	return found
}

// Prose returns the page's lines without code; a line of code is empty.
func (p Page) Prose() []string {
	lines := strings.Split(p.Text, "\n")
	within := false
	for i, line := range lines {
		mark := fence.MatchString(line)
		if mark || within {
			lines[i] = ""
		} else {
			lines[i] = inline.ReplaceAllString(line, "")
		}
		within = within != mark
	}
	return lines
}
