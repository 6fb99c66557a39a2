package bulk

import (
	"context"
	"errors"
	"fmt"

	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/legible"
	"github.com/kyclink/kyclink/tasks"
)

// Import is a file that is to be accepted as a batch. The links are made by
// whichever workers there are.
type Import struct {
	Input  *Input
	Batch  tasks.Batch
	Client *tasks.Client
	// Reject is called for every row that was not accepted, in order. Its error
	// ends the import.
	Reject func(Reject) error
	// Report is called now and then with how far it is.
	Report func(Counts)
	// Again accepts rows, too, that have a link already.
	Again bool
	// Whole keeps what rows hold until they are accepted, as [Rejects.Write] needs.
	Whole bool
	// Rounded is called for the first row whose id [LooksRounded]; it may be nil.
	Rounded func(Row)
}

// Reject is a row that was not accepted.
type Reject struct {
	Row           int
	Line          int
	ApplicationID string // as far as it could be read
	Reason        fault.Reason
	Problems      []tasks.Problem // of columns, by the file's names

	row Row
}

// Counts is how many rows of a file there were, and what became of them.
type Counts struct {
	Rows      int `json:"rows"`
	Accepted  int `json:"accepted"`  // by this import
	Again     int `json:"again"`     // by an earlier import of the batch
	Repeated  int `json:"repeated"`  // another row of the batch has its id
	Joined    int `json:"joined"`    // another batch, or somebody without one, asked for it
	Conflicts int `json:"conflicts"` // another content was accepted for its id
	Refused   int `json:"refused"`   // what it asks for cannot be had now: the generation
	Invalid   int `json:"invalid"`
	Linked    int `json:"linked"` // it has a link already, in the file, and is skipped
}

// Rejected is how many rows were not accepted.
func (c Counts) Rejected() int { return c.Conflicts + c.Refused + c.Invalid }

// count adds a row that was accepted.
func (c *Counts) count(how tasks.Acceptance) {
	switch how {
	case tasks.Fresh:
		c.Accepted++
	case tasks.Earlier:
		c.Again++
	case tasks.Repeated:
		c.Repeated++
	case tasks.Joined:
		c.Joined++
	}
}

// reportRows is after how many rows Report is called.
const reportRows = 500

// Run accepts the file's good rows. It gives the counts so far where it fails,
// too: then the same import can be done again, and goes on where this one
// stopped.
func (i *Import) Run(ctx context.Context) (Counts, error) {
	going, stop := context.WithCancel(ctx)
	defer stop()
	var counts Counts
	var unwritten error
	owners := newOwners()
	waiting := make(map[int]Row) // for their result, by number
	rows := func(yield func(tasks.Row, error) bool) {
		for row, err := range i.Input.Rows() {
			if err != nil {
				yield(tasks.Row{}, err)
				return
			}
			if i.passOver(&row, owners, &counts) {
				continue
			}
			i.suspect(row)
			if row.Err != nil { // hundreds of rows are on their way at a time, and what is wrong may be large
				row.Request = tasks.Request{ApplicationID: legible.Shorten(row.Request.ApplicationID)}
			}
			waiting[row.Number] = i.kept(row)
			if !yield(tasks.Row{Number: row.Number, Request: row.Request, Validated: row.Err == nil}, row.Err) {
				return
			}
		}
	}
	err := i.Client.EnqueueAll(going, i.Batch, rows, func(r tasks.Result) {
		row := waiting[r.Row.Number]
		delete(waiting, r.Row.Number)
		if err := i.add(&counts, r, row); err != nil && unwritten == nil {
			unwritten = err
			stop()
		}
	})
	if i.Report != nil {
		i.Report(counts)
	}
	if unwritten != nil {
		return counts, unwritten
	}
	return counts, whyEnded(ctx, err)
}

// suspect looks at the id of a row until one is found that looks rounded.
func (i *Import) suspect(row Row) {
	if i.Rounded != nil && LooksRounded(row.Request.ApplicationID) {
		i.Rounded(row)
		i.Rounded = nil
	}
}

func (i *Import) kept(row Row) Row {
	if i.Whole {
		return row
	}
	return Row{Number: row.Number, Line: row.Line}
}

// passOver counts a row that has a link, and is not to have another.
func (i *Import) passOver(row *Row, owners *owners, counts *Counts) bool {
	if i.Again {
		return false
	}
	if i.Input.keepLink(row, false, owners); row.linked == nil || row.Err != nil {
		return false
	}
	counts.Rows++
	counts.Linked++
	return true
}

func (i *Import) add(counts *Counts, r tasks.Result, row Row) error {
	if counts.Rows++; counts.Rows%reportRows == 0 && i.Report != nil {
		i.Report(*counts)
	}
	if r.Err == nil {
		counts.count(r.Acceptance)
		return nil
	}
	reject := i.Input.reject(r, row)
	switch reject.Reason {
	case fault.Conflict:
		counts.Conflicts++
	case fault.Invalid:
		counts.Invalid++
	default:
		counts.Refused++
	}
	return i.Reject(reject)
}

// reject tells of a row by the names that the file has for its columns.
func (in *Input) reject(r tasks.Result, row Row) Reject {
	reject := Reject{
		row: row, Row: row.Number, Line: row.Line, ApplicationID: r.Row.Request.ApplicationID, Reason: fault.Reason(tasks.ReasonOf(r.Err)),
	}
	var (
		invalid    *tasks.InvalidError
		conflict   *tasks.ConflictError
		foreign    *tasks.ForeignError
		unreadable *tasks.UnreadableError
	)
	switch {
	case errors.As(r.Err, &invalid):
		reject.Problems = append(reject.Problems, invalid.Problems...)
	case errors.As(r.Err, &conflict):
		for _, key := range conflict.Keys {
			reject.Problems = append(reject.Problems, tasks.Problem{Key: key, Message: "differs from what was accepted for this id before"})
		}
	case errors.As(r.Err, &foreign):
		reject.Problems = []tasks.Problem{{Key: idKey, Message: foreign.Error()}}
	case errors.As(r.Err, &unreadable):
		reject.Problems = []tasks.Problem{{Key: idKey, Message: unreadable.Error()}}
	default:
		reject.Problems = []tasks.Problem{{Key: "generation", Message: r.Err.Error()}}
	}
	for i, p := range reject.Problems {
		reject.Problems[i].Key = in.Column(p.Key)
	}
	return reject
}

func (r Reject) String() string {
	return fmt.Sprintf("row %d at line %d, %s: %s", r.Row, r.Line, r.Reason, r.message())
}

func (r Reject) message() string { return (&tasks.InvalidError{Problems: r.Problems}).Error() }
