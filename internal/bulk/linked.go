package bulk

import (
	"bytes"
	"encoding/json"
	"errors"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kyclink/kyclink/tasks"
)

// simulatedLinks is what simulated URLs begin with.
const simulatedLinks = "https://simulator.invalid/"

// rows gives the rows of the input, with the links that they have already. A row
// without a link is refused where another row has a link for its id: accepting it
// would make, and bill, a second one.
func (j *Job) rows() iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		for row, err := range j.Input.Rows() {
			if err == nil && !j.Again {
				row.linked = j.Input.linkOf(row, j.Simulated)
				if row.linked == nil && row.Err == nil && j.linked != nil && j.linked.has(row.Request.ApplicationID) {
					row.Err = &tasks.InvalidError{Problems: []tasks.Problem{{Key: j.Input.Column(idKey),
						Message: "is that of another row, which has a link already; use another id, or --again to make new links for all rows"}}}
				}
			}
			if !yield(row, err) {
				return
			}
		}
	}
}

// linkOf reads the link that a row of an OUT or of an export has; nil where it has
// none. The row is then neither checked nor accepted.
func (in *Input) linkOf(row Row, simulated bool) *tasks.Link {
	if row.broken() || row.raw != nil && !bytes.Contains(row.raw, []byte(`"url"`)) {
		return nil
	}
	value := row.value(in)
	url := value("url")
	if url == "" || value("status") != string(tasks.Created) || !in.ownOutput(row) {
		return nil
	}
	if strings.HasPrefix(url, simulatedLinks) && !simulated {
		return nil
	}
	l := &tasks.Link{
		ApplicationID: value(in.Column(idKey)), Status: tasks.Created, LinkID: value("link_id"), URL: url, Reason: value("reason"),
	}
	l.ExpiresAt, _ = time.Parse(time.RFC3339, value("expires_at"))       // what a person made of it is not kept
	l.Attempts, _ = strconv.Atoi(value("attempts"))                      // likewise
	l.PossibleDuplicates, _ = strconv.Atoi(value("possible_duplicates")) // likewise
	return l
}

// broken says that the row could not be taken apart, so that its cells may be those
// of other columns.
func (r Row) broken() bool {
	e, ok := errors.AsType[*tasks.InvalidError](r.Err)
	return ok && len(e.Problems) == 1 && e.Problems[0].Key == ""
}

// ownOutput says that a row looks like one of this program: others have columns of
// the name status and url, too.
func (in *Input) ownOutput(row Row) bool {
	has := func(name string) bool { return slices.Contains(in.columns, name) }
	if row.raw != nil {
		members, _ := object(row.raw)
		has = func(name string) bool {
			return slices.ContainsFunc(members, func(m member) bool { return m.key == name })
		}
	}
	return has("link_id") || has("expires_at") || has("possible_duplicates")
}

// value reads a row's cells, or members of an object, by name; "" for none.
func (r Row) value(in *Input) func(name string) string {
	if r.raw == nil {
		return func(name string) string {
			if i := slices.Index(in.columns, name); i >= 0 && i < len(r.cells) {
				return r.cells[i]
			}
			return ""
		}
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(r.raw, &members) != nil {
		members = nil
	}
	return func(name string) string {
		var text string
		if json.Unmarshal(members[name], &text) != nil {
			text = string(members[name])
		}
		return text
	}
}
