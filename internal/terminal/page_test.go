package terminal

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/mattn/go-runewidth"
)

func printed(t *testing.T, p *Page, write func(*Page) error) string {
	t.Helper()
	var text strings.Builder
	if err := write(p.On(&text)); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

func aTable(p *Page) error {
	table := p.Table("ID", "", "ROWS", "REASON")
	table.Row(Cell{Text: "A-1"}, Cell{}, Cell{Text: "7", Number: true}, Cell{Text: strings.Repeat("long ", 20), Tone: Bad})
	table.Row(Cell{Text: "A-1002"}, Cell{}, Cell{Text: "1,234", Number: true}, Cell{Text: "a\x1b[2J\nb"})
	return table.Flush()
}

func TestTable_IsCompleteWithoutATerminal(t *testing.T) {
	t.Parallel()
	got := printed(t, NewPage(nil), aTable)
	want := "A-1       7      " + strings.Repeat("long ", 20) + "\nA-1002    1,234  a\\u001b[2J\\u000ab\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestTable_FitsItsTerminal(t *testing.T) {
	t.Parallel()
	got := printed(t, NewFixedScreen(nil, 40, false), aTable)
	want := "ID       ROWS  REASON\nA-1         7  long long long long long…\nA-1002  1,234  a\\u001b[2J\\u000ab\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for line := range strings.SplitSeq(got, "\n") {
		if n := runewidth.StringWidth(line); n > 40 {
			t.Errorf("a line has %d columns: %q", n, line)
		}
	}
}

// A column of which commands take the content is whole, although the row is wider than the
// terminal then; the others are shortened as far as they may be.
func TestTable_KeepsWholeColumns(t *testing.T) {
	t.Parallel()
	const id = "019acd5e-1c3f-7c4b-9a7e-5f1b2c3d4e5f"
	for width, by := range map[int]string{80: "operator@a-long-host.example", 60: "operator@a-long…", 20: "operato…"} {
		n := utf8.RuneCountInString(by) + 2
		want := fmt.Sprintf("%-38s%-*sDONE\n%-38s%-*s   7\n", "ID", n, "BY", id, n, by)
		got := printed(t, NewFixedScreen(nil, width, false), func(p *Page) error {
			table := p.Table("ID", "BY", "DONE")
			table.Row(Cell{Text: id, Whole: true}, Cell{Text: "operator@a-long-host.example"}, Cell{Text: "7", Number: true})
			return table.Flush()
		})
		if got != want {
			t.Errorf("in %d columns, got\n%s\nwant\n%s", width, got, want)
		}
	}
}

// A colour emphasises a text, and is never the only carrier of a meaning.
func TestPage_HasTheSameTextWithColours(t *testing.T) {
	t.Parallel()
	all := func(p *Page) error {
		f := p.Fields()
		f.AddTone("status", Good, "created")
		f.Add("empty", "")
		f.Add("url", "https://shop.example/"+strings.Repeat("x", 40))
		f.Add("reason", "FaceKi refuses the credentials of the account")
		if err := f.Flush(); err != nil {
			return err
		}
		if err := p.Paragraph(Bad, "stuck: ", "no worker is running for \x1b[31m the account", 2); err != nil {
			return err
		}
		if err := p.Note(Dim, "To see all about one request: kyclink show ID"); err != nil {
			return err
		}
		return aTable(p)
	}
	plain, coloured := printed(t, NewFixedScreen(nil, 40, false), all), printed(t, NewFixedScreen(nil, 40, true), all)
	for _, want := range []string{"\x1b[32mcreated\x1b[0m", "\x1b[31mstuck: \x1b[0m", "\x1b[1mREASON\x1b[0m"} {
		if !strings.Contains(strings.ReplaceAll(strings.ReplaceAll(coloured, "\x1b[22m", "\x1b[0m"), "\x1b[0;22m", "\x1b[0m"), want) {
			t.Errorf("%q lacks %q", coloured, want)
		}
	}
	for _, code := range []string{"\x1b[0m", "\x1b[22m", "\x1b[0;22m", "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[33m"} {
		coloured = strings.ReplaceAll(coloured, code, "")
	}
	if coloured != plain {
		t.Errorf("with colours it is\n%q\nwithout\n%q", coloured, plain)
	}
	want := `status  created
url     https://shop.example/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
reason  FaceKi refuses the credentials
        of the account
stuck: no worker is running for
  \u001b[31m the account
To see all about one request: kyclink
show ID
`
	if !strings.HasPrefix(plain, want) {
		t.Errorf("got\n%s\nwant\n%s", plain, want)
	}
}

func TestBlock_IsDrawnInPlace(t *testing.T) {
	t.Parallel()
	var screen strings.Builder
	b := NewBlock(NewFixedScreen(&screen, 10, false))
	for _, text := range []string{"one two three", "four"} {
		if err := b.Draw(func(p *Page) error { return p.Paragraph(Plain, "", text, 0) }); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := screen.String(), "one two\nthree\n\x1b[2A\r\x1b[Jfour\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestLine_WrapsWhatItWritesAbove(t *testing.T) {
	t.Parallel()
	var screen strings.Builder
	l := NewFixedLine(&screen, 12)
	if _, err := l.Write([]byte("  is kept\none two three four\n")); err != nil {
		t.Fatal(err)
	}
	if got, want := screen.String(), "  is kept\none two\n  three four\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
