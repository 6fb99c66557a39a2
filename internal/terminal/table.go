package terminal

import (
	"fmt"
	"slices"
	"strings"

	"github.com/mattn/go-runewidth"

	"github.com/kyclink/kyclink/internal/legible"
)

// Cell is a cell of a [Table].
type Cell struct {
	Text string
	Tone Tone
	// Number aligns the cell to the right on a terminal.
	Number bool
	// Whole keeps the column from being shortened: commands take what is in it.
	Whole bool
}

// Table prints rows in columns. On a terminal it has headings, leaves empty columns out,
// and shortens the widest cells until a row fits the width, if it can.
type Table struct {
	page     *Page
	headings []string
	// Headed prints the headings also where there is no terminal.
	Headed bool
	rows   [][]Cell
}

// Table returns a table with a heading for each column.
func (p *Page) Table(headings ...string) *Table { return &Table{page: p, headings: headings} }

// Row adds a row with a cell for each heading.
func (t *Table) Row(cells ...Cell) {
	for i := range cells {
		cells[i].Text = legible.Line(cells[i].Text)
	}
	t.rows = append(t.rows, cells)
}

// Flush prints the rows that were added, below the headings the first time.
func (t *Table) Flush() error {
	if len(t.rows) == 0 {
		return nil
	}
	widths := t.widths()
	var text strings.Builder
	if t.headings != nil && (t.page.Terminal() || t.Headed) {
		row := make([]Cell, len(t.headings))
		for i, h := range t.headings {
			row[i] = Cell{Text: h, Tone: Heading, Number: t.rows[0][i].Number}
		}
		t.line(&text, widths, row)
		t.headings = nil
	}
	for _, row := range t.rows {
		t.line(&text, widths, row)
	}
	t.rows = nil
	_, err := fmt.Fprint(t.page.out, text.String())
	return err
}

const (
	gap      = 2 // columns between two cells
	narrowed = 8 // columns that a shortened cell keeps
)

// widths returns the width of each column, 0 for one that is left out.
func (t *Table) widths() []int {
	widths := make([]int, len(t.rows[0]))
	for _, row := range t.rows {
		for i, c := range row {
			widths[i] = max(widths[i], runewidth.StringWidth(c.Text))
		}
	}
	for i, h := range t.headings {
		if t.Headed || t.page.Terminal() && widths[i] > 0 { // an empty column is left out on a terminal
			widths[i] = max(widths[i], runewidth.StringWidth(h))
		}
	}
	if !t.page.Terminal() {
		return widths
	}
	total := -gap
	for _, w := range widths {
		if w > 0 {
			total += w + gap
		}
	}
	for total > t.page.width {
		widest := t.widest(widths)
		if widest < 0 {
			break
		}
		widths[widest]--
		total--
	}
	return widths
}

// widest returns the widest column that may be shortened; -1 if there is none.
func (t *Table) widest(widths []int) (widest int) {
	widest = -1
	for i, w := range widths {
		whole := slices.ContainsFunc(t.rows, func(row []Cell) bool { return row[i].Whole })
		if !whole && w > narrowed && (widest < 0 || w > widths[widest]) {
			widest = i
		}
	}
	return widest
}

// line writes a row.
func (t *Table) line(to *strings.Builder, widths []int, row []Cell) {
	var line strings.Builder
	padding := 0
	for i, c := range row {
		if widths[i] == 0 && t.page.Terminal() {
			continue
		}
		text := c.Text
		if t.page.Terminal() {
			text = runewidth.Truncate(text, widths[i], "…")
		}
		before, missing := padding, widths[i]-runewidth.StringWidth(text)
		if padding = gap + missing; c.Number && t.page.Terminal() {
			before, padding = before+missing, gap
		}
		if text != "" {
			line.WriteString(strings.Repeat(" ", before) + t.page.styled(c.Tone, text))
		} else {
			padding += before
		}
	}
	to.WriteString(line.String() + "\n")
}

// Fields prints names and their values in two columns. On a terminal it wraps the values.
type Fields struct {
	page *Page
	rows [][2]Cell
}

// Fields returns an empty list of fields.
func (p *Page) Fields() *Fields { return &Fields{page: p} }

// Add adds a field, unless its value is empty.
func (f *Fields) Add(name, value string) { f.AddTone(name, Plain, value) }

// AddTone adds a field whose value is in a tone.
func (f *Fields) AddTone(name string, tone Tone, value string) {
	if value != "" {
		f.rows = append(f.rows, [2]Cell{{Text: name}, {Text: value, Tone: tone}})
	}
}

// Flush prints the fields that were added.
func (f *Fields) Flush() error {
	width := 0
	for _, r := range f.rows {
		width = max(width, runewidth.StringWidth(r[0].Text))
	}
	var text strings.Builder
	for _, r := range f.rows {
		name, value := r[0].Text, r[1]
		margin := strings.Repeat(" ", width-runewidth.StringWidth(name)+gap)
		lines := wrap(f.page.legible(value.Text), f.page.width, width+gap, width+gap)
		for i := range lines {
			lines[i] = f.page.styled(value.Tone, lines[i])
		}
		fmt.Fprintf(&text, "%s%s%s\n", f.page.styled(Dim, name), margin, strings.Join(lines, "\n"+strings.Repeat(" ", width+gap)))
	}
	f.rows = nil
	_, err := fmt.Fprint(f.page.out, text.String())
	return err
}
