package terminal

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/fatih/color"
	"github.com/mattn/go-runewidth"

	"github.com/kyclink/kyclink/internal/legible"
)

// Tone is how a text stands out on a terminal. It is never the only carrier of a meaning.
type Tone int

// The tones.
const (
	Plain Tone = iota
	Heading
	Dim
	Good
	Warning
	Bad
)

// paint returns text in a tone.
func (t Tone) paint(text string) string {
	attribute, ok := map[Tone]color.Attribute{
		Heading: color.Bold, Dim: color.Faint, Good: color.FgGreen, Warning: color.FgYellow, Bad: color.FgRed,
	}[t]
	if !ok || text == "" {
		return text
	}
	c := color.New(attribute)
	c.EnableColor() // whether there are colours is decided by the page
	return c.Sprint(text)
}

// Page is where a command prints text for people. On a terminal it uses colours and fits
// the width; elsewhere it prints everything, without colours.
type Page struct {
	out    io.Writer
	width  int // columns; 0 without a terminal
	colour bool
}

// NewPage returns a page on a writer that is no terminal, or that prints as if it were none.
func NewPage(out io.Writer) *Page { return &Page{out: out} }

// NewScreen returns a page on a terminal. It escapes what others wrote. There are no
// colours if NO_COLOR is set or the terminal is dumb.
func NewScreen(terminal *os.File) *Page {
	return &Page{terminal, columns(terminal), os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

// NewFixedScreen returns a page on any writer, as on a terminal with this many columns.
func NewFixedScreen(out io.Writer, columns int, colour bool) *Page {
	return &Page{out, columns, colour}
}

// On returns the same page on another writer.
func (p *Page) On(out io.Writer) *Page { return &Page{out, p.width, p.colour} }

// Terminal reports whether the page is a terminal.
func (p *Page) Terminal() bool { return p.width > 0 }

// legible returns the text as it is shown. Without a terminal, the writer escapes it.
func (p *Page) legible(text string) string {
	if p.Terminal() {
		return legible.Text(text)
	}
	return text
}

// styled returns text as the page prints it.
func (p *Page) styled(tone Tone, text string) string {
	text = p.legible(text)
	if p.colour {
		text = tone.paint(text)
	}
	return text
}

// Paragraph prints a label in a tone and a text. On a terminal the text is wrapped, and the
// lines after the first one are indented.
func (p *Page) Paragraph(tone Tone, label, text string, indent int) error {
	lines := wrap(p.legible(text), p.width, runewidth.StringWidth(label), indent)
	_, err := fmt.Fprintf(p.out, "%s%s\n", p.styled(tone, label), p.styled(Plain, strings.Join(lines, "\n"+strings.Repeat(" ", indent))))
	return err
}

// Note prints a text in a tone, wrapped on a terminal.
func (p *Page) Note(tone Tone, text string) error {
	lines := wrap(p.legible(text), p.width, 0, 0)
	for i := range lines {
		lines[i] = p.styled(tone, lines[i])
	}
	_, err := fmt.Fprintln(p.out, strings.Join(lines, "\n"))
	return err
}

// wrap breaks text between words into lines of a width, of which the first begins after some
// columns and the others after indent. A word that is longer than a line, such as a URL, is
// not broken. A width of 0 is no limit.
func wrap(text string, width, after, indent int) []string {
	if width == 0 || runewidth.StringWidth(text) <= width-after {
		return []string{text}
	}
	var lines []string
	line, room := "", width-after
	for word := range strings.SplitSeq(text, " ") {
		switch {
		case line == "":
			line = word
		case runewidth.StringWidth(line)+1+runewidth.StringWidth(word) <= room:
			line += " " + word
		default:
			lines = append(lines, line)
			line, room = word, width-indent
		}
	}
	return append(lines, line)
}

// Block is a part of a terminal that is drawn repeatedly, in place.
type Block struct {
	page  *Page
	lines int // that are drawn
}

// NewBlock returns a block below what the page has printed.
func NewBlock(p *Page) *Block { return &Block{page: p} }

// Draw draws what write prints, in place of what was drawn before.
func (b *Block) Draw(write func(*Page) error) error {
	var text strings.Builder
	if err := write(b.page.On(&text)); err != nil {
		return err
	}
	clear := ""
	if b.lines > 0 {
		clear = fmt.Sprintf("\x1b[%dA\r\x1b[J", b.lines)
	}
	b.lines = strings.Count(text.String(), "\n")
	_, err := io.WriteString(b.page.out, clear+text.String())
	return err
}
