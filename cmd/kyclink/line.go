package main

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

// line is the last line of a terminal, which is drawn over and over. Everything else
// is written through it, and stays above. Without a terminal nothing is drawn. It is
// safe for concurrent use.
type line struct {
	out   io.Writer
	width func() int // columns; nil without a terminal

	mu    sync.Mutex
	text  string // that is drawn; "" for none
	ended bool
}

func newLine(out io.Writer, terminal bool) *line {
	l := &line{out: out}
	if terminal {
		l.width = func() int { return columns(out) }
	}
	return l
}

const usualColumns = 80

func columns(out io.Writer) int {
	if file, ok := out.(*os.File); ok {
		if width, _, err := term.GetSize(int(file.Fd())); err == nil && width > 0 {
			return width
		}
	}
	return usualColumns
}

const clearLine = "\r\x1b[K"

// caretC is what a terminal echoes at the end of the line when a command is
// interrupted.
const caretC = "^C"

// draw shows a text that render makes for a width.
func (l *line) draw(render func(width int) string) {
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

// Write writes whole lines above.
func (l *line) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.text != "" {
		fmt.Fprint(l.out, clearLine)
	}
	n := len(p)
	_, err := io.WriteString(l.out, legible.Text(string(p)))
	if l.text != "" {
		fmt.Fprint(l.out, l.text)
	}
	return n, err
}

// end leaves what is drawn, or takes it away. It may be called again.
func (l *line) end(keep bool) {
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

// bar shows a share in a number of columns.
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

const mostBar = 40

// withBar puts a bar between two texts, as wide as there is room.
func withBar(before, after string, done, total, width int) string {
	room := width - utf8.RuneCountInString(before) - utf8.RuneCountInString(after) - 2
	if b := bar(done, total, min(room, mostBar)); b != "" {
		return before + " " + b + " " + after
	}
	return before + "  " + after
}

// percent is 100 only when all is done.
func percent(done, total int) string {
	if total <= 0 {
		return "0 %"
	}
	return fmt.Sprintf("%d %%", min(done, total)*100/total)
}
