// Package terminal prints text for people: tables and fields that fit a terminal, colours, and
// the progress of a command on the last line.
package terminal

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/kyclink/kyclink/internal/legible"
)

// Line is the last line of a terminal, which is drawn repeatedly. All other output is written
// through it, and stays above. Without a terminal it draws nothing. It is
// safe for concurrent use.
type Line struct {
	out   io.Writer
	width func() int // columns; nil without a terminal

	mu    sync.Mutex
	text  string // what is drawn; "" for nothing
	ended bool
}

// NewLine returns a line that draws only if out is a terminal.
func NewLine(out io.Writer, terminal bool) *Line {
	l := &Line{out: out}
	if terminal {
		l.width = func() int { return columns(out) }
	}
	return l
}

// NewFixedLine returns a line that draws on any writer, in a fixed number of columns.
func NewFixedLine(out io.Writer, columns int) *Line {
	return &Line{out: out, width: func() int { return columns }}
}

// Draws reports whether there is a terminal.
func (l *Line) Draws() bool { return l.width != nil }

const usualColumns = 80

func columns(out io.Writer) int {
	if file, ok := out.(*os.File); ok {
		if width, _, err := term.GetSize(int(file.Fd())); err == nil && width > 0 {
			return width
		}
	}
	return usualColumns
}

const messageIndent = 2 // of the wrapped rest of a line

const clearLine = "\r\x1b[K"

// caretC is what a terminal echoes at the end of the line when a command is
// interrupted.
const caretC = "^C"

// Draw shows the text that render returns for a width.
func (l *Line) Draw(render func(width int) string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.width == nil || l.ended {
		return
	}
	width := max(l.width()-len(caretC)-1, 1)
	text := legible.Text(render(width))
	if runes := []rune(text); len(runes) > width {
		text = string(runes[:width])
	}
	if text != l.text {
		l.text = text
		fmt.Fprint(l.out, clearLine+text)
	}
}

// Write writes whole lines above. On a terminal, long ones are wrapped between words.
func (l *Line) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.text != "" {
		fmt.Fprint(l.out, clearLine)
	}
	n := len(p)
	text := legible.Text(string(p))
	if l.width != nil {
		lines := strings.Split(text, "\n")
		for i := range lines {
			lines[i] = strings.Join(wrap(lines[i], l.width(), 0, messageIndent), "\n"+strings.Repeat(" ", messageIndent))
		}
		text = strings.Join(lines, "\n")
	}
	_, err := io.WriteString(l.out, text)
	if l.text != "" {
		fmt.Fprint(l.out, l.text)
	}
	return n, err
}

// End stops drawing, and keeps or clears the line. It may be called several times.
func (l *Line) End(keep bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if text := l.text; text != "" {
		fmt.Fprint(l.out, clearLine)
		if keep {
			fmt.Fprintln(l.out, text)
		}
	}
	l.text, l.ended = "", true
}

// bar returns a bar of this many columns that shows a share.
func bar(done, total, width int) string {
	inner := width - 2
	if inner < 3 || total <= 0 {
		return ""
	}
	full := min(done, total) * inner / total
	text := strings.Repeat("=", full)
	if full < inner {
		text += ">"
	}
	return "[" + text + strings.Repeat(" ", inner-utf8.RuneCountInString(text)) + "]"
}

const widestBar = 40

// WithBar puts a bar between two texts, as wide as the width allows.
func WithBar(before, after string, done, total, width int) string {
	room := width - utf8.RuneCountInString(before) - utf8.RuneCountInString(after) - 2
	if b := bar(done, total, min(room, widestBar)); b != "" {
		return before + " " + b + " " + after
	}
	return before + "  " + after
}

// Percent returns a percentage, which is 100 only when everything is done.
func Percent(done, total int) string {
	if total <= 0 {
		return "0 %"
	}
	return fmt.Sprintf("%d %%", min(done, total)*100/total)
}
