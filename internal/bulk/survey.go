package bulk

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kyclink/kyclink/internal/legible"
)

// Survey is what the rows of a file tell before any of them is accepted.
type Survey struct {
	Rows int
	// Linked is how many rows have a link already: the input is an OUT or an export,
	// and the row has the status created and a URL. They keep it.
	Linked int
	// Repeated is how many rows have the id, and the generation, of an earlier row: a
	// request has one link, however many rows ask for it. Repeats are the first of them.
	Repeated int
	Repeats  []Repeat
}

// shownRepeats is how many repeats a survey names.
const shownRepeats = 10

// Repeat is a row whose id an earlier row has.
type Repeat struct {
	Row, First    int
	ApplicationID string
	Columns       []string // in which the two rows differ
}

func (r Repeat) String() string {
	text := fmt.Sprintf("row %d has the id of row %d, %s", r.Row, r.First, r.ApplicationID)
	if len(r.Columns) > 0 {
		text += ", but another " + legible.Line(strings.Join(r.Columns, ", "))
	}
	return text
}

// Survey reads the file once, with memory that does not grow but for the rows that
// have a link: dir is for temporary files, which a large one needs. It is to be called
// before [Job.Work].
func (j *Job) Survey(dir string) (Survey, error) {
	var s Survey
	linked := newIDs()
	seen := newRepeats(dir)
	defer seen.close()
	for row, err := range j.rows() {
		if err != nil {
			return s, err
		}
		s.Rows++
		switch {
		case row.linked != nil:
			if row.keeps() {
				s.Linked++
			}
			linked.add(row.Request.ApplicationID)
		case row.Err == nil:
			if err := seen.add(row.identity(), row.Number, ""); err != nil {
				return s, err
			}
		}
	}
	j.all, j.linked = s.Rows, &linked
	err := seen.each(func(r repeat) {
		s.Repeated++
		s.Repeats = append(s.Repeats, Repeat{Row: r.row, First: r.first})
		if len(s.Repeats) >= 2*shownRepeats {
			s.Repeats = firstRepeats(s.Repeats)
		}
	})
	if err != nil {
		return s, err
	}
	s.Repeats = firstRepeats(s.Repeats)
	return s, j.describe(s.Repeats)
}

// firstRepeats are those that come first in the file.
func firstRepeats(all []Repeat) []Repeat {
	slices.SortFunc(all, func(a, b Repeat) int { return a.Row - b.Row })
	return all[:min(len(all), shownRepeats)]
}

// identity is what rows that mean the same link have in common.
func (r Row) identity() string {
	return fmt.Sprintf("%s\x00%d", r.Request.ApplicationID, max(r.Request.Generation, 1))
}

// describe reads the rows of the repeats once more, and says how they differ.
func (j *Job) describe(repeats []Repeat) error {
	wanted, ids := make(map[int]map[string]string), make(map[int]string)
	for _, r := range repeats {
		wanted[r.Row], wanted[r.First] = nil, nil
	}
	for row, err := range j.Input.Rows() {
		if len(wanted) == 0 {
			break
		}
		if err != nil {
			return err
		}
		if _, ok := wanted[row.Number]; ok {
			wanted[row.Number], ids[row.Number] = row.values(j.Input), row.Request.ApplicationID
		}
		if len(repeats) > 0 && row.Number >= repeats[len(repeats)-1].Row {
			break
		}
	}
	for i, r := range repeats {
		row, first := wanted[r.Row], wanted[r.First]
		repeats[i].ApplicationID = ids[r.Row]
		for _, name := range slices.Sorted(maps.Keys(row)) {
			if row[name] != first[name] && !isResult(name) {
				repeats[i].Columns = append(repeats[i].Columns, name)
			}
		}
	}
	return nil
}

// values are the row's cells, or members, by name.
func (r Row) values(in *Input) map[string]string {
	values, names := make(map[string]string), in.columns
	if r.raw != nil {
		members, _ := object(r.raw)
		names = nil
		for _, m := range members {
			names = append(names, m.key)
		}
	}
	value := r.value(in)
	for _, name := range names {
		values[name] = value(name)
	}
	return values
}
