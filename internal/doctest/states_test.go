package doctest

import (
	"fmt"
	"go/ast"
	"go/doc/comment"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

const statesIntro = `# States

*Generated from the state table in the comment of package ` + "`%s`" + `, which ` + "`TestStateTable`" + ` executes; do not edit.*

Each row is a transition and each column the state before it. A cell gives the state after it; \* means that an event is published, and an empty cell
that nothing changes. [The glossary](glossary.md) defines the terms.

`

func TestStates_PageMatchesTable(t *testing.T) {
	name, text := stateComment(t)
	var page strings.Builder
	fmt.Fprintf(&page, statesIntro, name)
	var p comment.Parser
	doc := p.Parse(text)
	var rest comment.Doc
	tables := 0
	for _, block := range doc.Content {
		if code, ok := block.(*comment.Code); ok && strings.HasPrefix(strings.TrimSpace(code.Text), "accept") {
			page.WriteString(transposed(t, code.Text))
			tables++
			continue
		}
		if tables > 0 { // what comes before introduces the package
			rest.Content = append(rest.Content, block)
		}
	}
	if tables != 1 {
		t.Fatalf("the comment of package %s has %d state tables", name, tables)
	}
	page.WriteString("\n")
	printer := comment.Printer{DocLinkURL: func(*comment.DocLink) string { return "" }}
	page.WriteString(strings.TrimRight(string(printer.Markdown(&rest)), "\n") + "\n")
	Generated(t, "docs/states.md", page.String())
}

// stateComment finds the package whose comment holds the state table.
func stateComment(t *testing.T) (name, text string) {
	t.Helper()
	root := Root(t)
	err := filepath.WalkDir(filepath.Join(root, "internal"), func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments|parser.PackageClauseOnly)
		if err != nil {
			return err
		}
		if file.Doc != nil && isStateTable(file.Doc) {
			dir, _ := filepath.Rel(root, filepath.Dir(path))
			name, text = filepath.ToSlash(dir), file.Doc.Text()
		}
		return nil
	})
	if err != nil || text == "" {
		t.Fatalf("find the state table: %v", err)
	}
	return name, text
}

func isStateTable(doc *ast.CommentGroup) bool {
	return strings.Contains(doc.Text(), "\nnone ") || strings.Contains(doc.Text(), "\n\tnone ")
}

// transposed turns the table of a comment, with a column for each transition, into
// Markdown with a row for each.
func transposed(t *testing.T, table string) string {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(table), "\n")
	transitions := strings.Fields(lines[0])
	var out strings.Builder
	out.WriteString("| |")
	var rows [][]string
	for _, line := range lines[1:] {
		row := strings.Fields(line)
		if len(row) != len(transitions)+1 {
			t.Fatalf("row %q of the state table has %d cells, want %d", row[0], len(row)-1, len(transitions))
		}
		rows = append(rows, row)
		fmt.Fprintf(&out, " %s |", row[0])
	}
	out.WriteString("\n" + strings.Repeat("| --- ", len(rows)+1) + "|\n")
	for i, transition := range transitions {
		fmt.Fprintf(&out, "| **%s** |", transition)
		for _, row := range rows {
			cell := strings.ReplaceAll(row[i+1], "*", `\*`)
			if cell == "-" {
				cell = ""
			}
			fmt.Fprintf(&out, " %s |", cell)
		}
		out.WriteString("\n")
	}
	return out.String()
}
