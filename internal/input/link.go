package input

import (
	"bytes"
	"encoding/json"
	"hash/maphash"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kyclink/kyclink/internal/column"
	"github.com/kyclink/kyclink/tasks"
)

// simulatedLinks is the prefix of simulated URLs.
const simulatedLinks = "https://simulator.invalid/"

// RowsWithLinks gives the rows like [File.Rows], and sets the link of each row that
// has one already, as in an output file of kyclink. Such a row keeps its link, and
// its other problems do not count; but it is refused if the link was made for other
// content or for another row. Simulated links count only for a simulated run.
func (in *File) RowsWithLinks(simulated bool) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		owners := linkOwners{maphash.MakeSeed(), make(map[uint64]uint64)}
		for row, err := range in.Rows() {
			if err == nil {
				in.setLink(&row, simulated, owners)
			}
			if !yield(row, err) {
				return
			}
		}
	}
}

func (in *File) setLink(row *Row, simulated bool, owners linkOwners) {
	link := in.parseLink(*row, simulated)
	if link == nil {
		return
	}
	switch {
	case !owners.claim(link.URL, link.ApplicationID):
		row.Err = &tasks.InvalidError{Problems: []tasks.Problem{{Key: "url",
			Message: "is the link of an earlier row with another id; clear the cells status and url to request a new link"}}}
		return
	case link.Status == column.Rejected:
		row.Err = &tasks.InvalidError{Problems: []tasks.Problem{{Key: "url",
			Message: "is an existing link, made for other content than this row had; clear the cells status and url to request a new link"}}}
	default:
		row.Err = nil
	}
	row.Link = link
}

// linkOwners maps hashes of URLs to hashes of the ids of the first rows with these
// links.
type linkOwners struct {
	seed maphash.Seed
	ids  map[uint64]uint64
}

// claim reports whether a link belongs to an id: no earlier row had it with another
// id.
func (o linkOwners) claim(url, id string) bool {
	link, want := maphash.String(o.seed, url), maphash.String(o.seed, id)
	if _, ok := o.ids[link]; !ok {
		o.ids[link] = want
	}
	return o.ids[link] == want
}

// parseLink reads the link that a row of an output file has; nil if it has none.
func (in *File) parseLink(row Row, simulated bool) *tasks.Link {
	if row.malformed() || row.JSON == nil && !in.isExport || row.JSON != nil && !bytes.Contains(row.JSON, []byte(`"url"`)) {
		return nil
	}
	value := in.values(row)
	url, status := value("url"), tasks.Status(value("status"))
	if url == "" || status != tasks.Created && status != column.Rejected || row.JSON != nil && !isExportObject(row) {
		return nil
	}
	if strings.HasPrefix(url, simulatedLinks) && !simulated {
		return nil
	}
	l := &tasks.Link{
		ApplicationID: value(in.Name(column.ID)), Status: status, LinkID: value("link_id"), URL: url, Reason: value("reason"),
	}
	// Values that cannot be parsed, because people changed them, are dropped.
	l.ExpiresAt, _ = time.Parse(time.RFC3339, value("expires_at"))
	l.Attempts, _ = strconv.Atoi(value("attempts"))
	l.PossibleDuplicates, _ = strconv.Atoi(value("possible_duplicates"))
	return l
}

// isExportObject reports whether a row of NDJSON looks like one that kyclink wrote.
func isExportObject(row Row) bool {
	members, _ := Members(row.JSON)
	return hasExportColumns(func(name string) bool {
		return slices.ContainsFunc(members, func(m Member) bool { return m.Key == name })
	})
}

// hasExportColumns reports whether columns or keys are those of an output file of
// kyclink. Other programs have columns named status and url, too.
func hasExportColumns(has func(name string) bool) bool {
	return has("status") && has("url") && (has("link_id") || has("expires_at") || has("possible_duplicates"))
}

// values returns a function that gives a row's values by column or key; "" if there
// is none.
func (in *File) values(r Row) func(name string) string {
	if r.JSON == nil {
		return func(name string) string {
			if i := slices.Index(in.columns, name); i >= 0 && i < len(r.Cells) {
				return r.Cells[i]
			}
			return ""
		}
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(r.JSON, &members) != nil {
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

// Values returns the values of all columns or keys of a row, by name.
func (in *File) Values(r Row) map[string]string {
	values, names := make(map[string]string), in.columns
	if r.JSON != nil {
		members, _ := Members(r.JSON)
		names = nil
		for _, m := range members {
			names = append(names, m.Key)
		}
	}
	value := in.values(r)
	for _, name := range names {
		values[name] = value(name)
	}
	return values
}
