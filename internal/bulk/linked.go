package bulk

import (
	"bytes"
	"encoding/json"
	"errors"
	"hash/maphash"
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
		owners := newOwners()
		for row, err := range j.Input.Rows() {
			if err == nil && !j.Again {
				j.Input.keepLink(&row, j.Simulated, owners)
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

// keepLink finds out whether the row has a link already. It then keeps it, and is
// neither checked nor accepted; or it is refused, where the link was made for other
// content or for another row.
func (in *Input) keepLink(row *Row, simulated bool, owners *owners) {
	link := in.linkOf(*row, simulated)
	if link == nil {
		return
	}
	switch {
	case !owners.own(link.URL, link.ApplicationID):
		row.Err = &tasks.InvalidError{Problems: []tasks.Problem{{Key: "url",
			Message: "is the link of an earlier row, which has another id; empty the cells status and url, so that this row gets its own"}}}
		return
	case link.Status == Rejected:
		row.Err = &tasks.InvalidError{Problems: []tasks.Problem{{Key: "url",
			Message: "is a link that exists already, for other content than this row had; empty the cells status and url to have a new one made"}}}
	default:
		row.Err = nil
	}
	row.linked = link
}

// owners are the ids of the rows that were the first to have a link, by the link.
type owners struct {
	seed maphash.Seed
	ids  map[uint64]uint64
}

func newOwners() *owners { return &owners{maphash.MakeSeed(), make(map[uint64]uint64)} }

// own says whether a link is that of an id, and not of another that had it before.
func (o *owners) own(url, id string) bool {
	link, want := maphash.String(o.seed, url), maphash.String(o.seed, id)
	if _, ok := o.ids[link]; !ok {
		o.ids[link] = want
	}
	return o.ids[link] == want
}

// linkOf reads the link that a row of an OUT or of an export has; nil where it has
// none.
func (in *Input) linkOf(row Row, simulated bool) *tasks.Link {
	if row.broken() || row.raw == nil && !in.exported || row.raw != nil && !bytes.Contains(row.raw, []byte(`"url"`)) {
		return nil
	}
	value := row.value(in)
	url, status := value("url"), tasks.Status(value("status"))
	if url == "" || status != tasks.Created && status != Rejected || row.raw != nil && !ownOutput(row) {
		return nil
	}
	if strings.HasPrefix(url, simulatedLinks) && !simulated {
		return nil
	}
	l := &tasks.Link{
		ApplicationID: value(in.Column(idKey)), Status: status, LinkID: value("link_id"), URL: url, Reason: value("reason"),
	}
	l.ExpiresAt, _ = time.Parse(time.RFC3339, value("expires_at"))       // what a person made of it is not kept
	l.Attempts, _ = strconv.Atoi(value("attempts"))                      // likewise
	l.PossibleDuplicates, _ = strconv.Atoi(value("possible_duplicates")) // likewise
	return l
}

// keeps says that the row has a link, and stays as it is.
func (r Row) keeps() bool { return r.linked != nil && r.Err == nil }

// broken says that the row could not be taken apart, so that its cells may be those
// of other columns.
func (r Row) broken() bool {
	e, ok := errors.AsType[*tasks.InvalidError](r.Err)
	return ok && len(e.Problems) == 1 && e.Problems[0].Key == ""
}

// ownOutput says that a row of NDJSON looks like one of this program.
func ownOutput(row Row) bool {
	members, _ := object(row.raw)
	return isExport(func(name string) bool {
		return slices.ContainsFunc(members, func(m member) bool { return m.key == name })
	})
}

// isExport says by the names of columns or keys that this program wrote them: others
// have columns of the name status and url, too.
func isExport(has func(name string) bool) bool {
	return has("status") && has("url") && (has("link_id") || has("expires_at") || has("possible_duplicates"))
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
