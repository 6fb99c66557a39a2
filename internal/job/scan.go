package job

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kyclink/kyclink/internal/column"
	"github.com/kyclink/kyclink/internal/input"
	"github.com/kyclink/kyclink/internal/legible"
)

// Scan is what the rows of a file show before any row is accepted.
type Scan struct {
	Rows int
	// Linked is how many rows have a link already: the input is an output file of
	// kyclink, and the row has the status created and a URL. They keep it.
	Linked int
	// Duplicates is how many rows have the id and the generation of an earlier row: a
	// request has one link, however many rows ask for it. First are the first of them.
	Duplicates int
	First      []Duplicate
}

// maxDuplicates is how many duplicates a scan names.
const maxDuplicates = 10

// Duplicate is a row whose id an earlier row has.
type Duplicate struct {
	Row, First    int
	ApplicationID string
	Columns       []string // in which the two rows differ
}

func (d Duplicate) String() string {
	text := fmt.Sprintf("row %d has the same id as row %d, %s", d.Row, d.First, d.ApplicationID)
	if len(d.Columns) > 0 {
		text += ", but differs in " + legible.Line(strings.Join(d.Columns, ", "))
	}
	return text
}

// Scan reads the file once, before [Job.Work]. Only rows with a link cost memory; dir
// is for temporary files, which a large file needs.
func (j *Job) Scan(dir string) (Scan, error) {
	var s Scan
	linked := newIDs()
	duplicates := input.NewDuplicates(dir)
	defer duplicates.Close()
	for row, err := range j.inputRows() {
		if err != nil {
			return s, err
		}
		s.Rows++
		switch {
		case row.Link != nil:
			if row.KeepsLink() {
				s.Linked++
			}
			linked.add(row.Request.ApplicationID)
		case row.Err == nil:
			if err := duplicates.Add(generationOf(row), row.Number, 0); err != nil {
				return s, err
			}
		}
	}
	j.rows, j.linkedIDs = s.Rows, &linked
	err := duplicates.Each(func(d input.Duplicate) {
		s.Duplicates++
		s.First = append(s.First, Duplicate{Row: d.Row, First: d.First})
		if len(s.First) >= 2*maxDuplicates {
			s.First = first(s.First)
		}
	})
	if err != nil {
		return s, err
	}
	s.First = first(s.First)
	return s, j.compare(s.First)
}

// first returns the duplicates that come first in the file.
func first(all []Duplicate) []Duplicate {
	slices.SortFunc(all, func(a, b Duplicate) int { return a.Row - b.Row })
	return all[:min(len(all), maxDuplicates)]
}

// generationOf identifies the generation that a row asks for.
func generationOf(r input.Row) string {
	return fmt.Sprintf("%s\x00%d", r.Request.ApplicationID, max(r.Request.Generation, 1))
}

func (j *Job) idColumn() string { return j.Input.Name(column.ID) }

// compare reads the rows of the duplicates once more, and sets in what they differ.
func (j *Job) compare(duplicates []Duplicate) error {
	values, ids := make(map[int]map[string]string), make(map[int]string)
	for _, d := range duplicates {
		values[d.Row], values[d.First] = nil, nil
	}
	for row, err := range j.Input.Rows() {
		if len(values) == 0 {
			break
		}
		if err != nil {
			return err
		}
		if _, ok := values[row.Number]; ok {
			values[row.Number], ids[row.Number] = j.Input.Values(row), row.Request.ApplicationID
		}
		if len(duplicates) > 0 && row.Number >= duplicates[len(duplicates)-1].Row {
			break
		}
	}
	for i, d := range duplicates {
		row, first := values[d.Row], values[d.First]
		duplicates[i].ApplicationID = ids[d.Row]
		for _, name := range slices.Sorted(maps.Keys(row)) {
			if row[name] != first[name] && !column.IsResult(name) {
				duplicates[i].Columns = append(duplicates[i].Columns, name)
			}
		}
	}
	return nil
}
