package job

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/request"
)

// Requests of rows that were changed in the file do not count.
func TestProgress_CountsRows(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.do(h.job("run", "A-1,,,", "A-2,,,", "A-3,,,"))
	j := h.job("run", "A-1,"+done+",,", "B-2,,,", "B-2,,,", "A-3,,,") // the first is in conflict
	if s, err := j.Scan(t.TempDir()); err != nil || s.Rows != 4 || s.Duplicates != 1 {
		t.Errorf("Scan: got %+v, %v; want 4 rows with 1 duplicate", s, err)
	}
	drive := j.OnProgress
	j.OnProgress = func(p Progress) {
		if p.Finished() > 4 || p.Total() != 4 || p.AllAccepted && p.Open() > 0 && p.Finished() != 3 {
			t.Errorf("got %d of %d rows finished, progress %+v", p.Finished(), p.Total(), p)
		}
		drive(p)
	}
	if p := h.do(j); p.Finished() != 4 || p.Total() != 4 || p.Counts[request.Created] != 4 {
		t.Errorf("at the end: got %d of %d rows finished, progress %+v; want 4 of 4 created", p.Finished(), p.Total(), p)
	}
}

func TestScan_FindsLinksAndDuplicates(t *testing.T) {
	t.Parallel()
	const own = "application_id,name,status,url,link_id\n"
	for _, c := range []struct {
		name, text string
		change     func(*Job)
		want       string
	}{
		{"a.csv", own + "A-1,Ann,created,https://faceki.example/1,1\nA-2,Bob,failed,,\n", nil, "2 rows, 1 linked"},
		{"a.csv", own + "A-1,Ann,created,https://faceki.example/1,1\n", func(j *Job) { j.IgnoreLinks = true }, "1 rows, 0 linked"},
		{"a.csv", own + "A-1,Ann,created,https://simulator.invalid/1,1\n", nil, "1 rows, 0 linked"},
		{"a.csv", own + "A-1,Ann,created,https://simulator.invalid/1,1\n", func(j *Job) { j.Simulated = true }, "1 rows, 1 linked"},
		{"a.csv", "application_id,status,url\nA-1,created,https://crm.example/1\n", nil, "1 rows, 0 linked"}, // the columns of another program
		{"a.csv", own + "A-1,Ann,rejected,https://faceki.example/1,1\nA-2,Bob,created,,\n", nil, "2 rows, 0 linked"},
		{"a.csv", "application_id,name\nA-1,Ann\nA-2,Bob\nA-1,Cid\nA-1,Ann\n", nil,
			"4 rows, 0 linked, row 3 has the same id as row 1, A-1, but differs in name, row 4 has the same id as row 1, A-1"},
		{"a.ndjson", `{"application_id":"A-1","metadata":{"n":1}}` + "\n" + `{"application_id":"A-1","metadata":{"n":2}}`, nil,
			"2 rows, 0 linked, row 2 has the same id as row 1, A-1, but differs in metadata"},
	} {
		j := &Job{Input: open(t, fixture.File(t, c.name, c.text))}
		if c.change != nil {
			c.change(j)
		}
		s, err := j.Scan(t.TempDir())
		got := fmt.Sprintf("%d rows, %d linked", s.Rows, s.Linked)
		for _, r := range s.First {
			got += ", " + r.String()
		}
		if err != nil || got != c.want || s.Duplicates != len(s.First) {
			t.Errorf("%s: got %s, %v; want %s", c.text, got, err, c.want)
		}
	}
}

// A row that repeats the id of one with a link does not get a second link.
func TestJob_KeepsLinksOfTheInput(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	j := h.job("run", "X,,,")
	j.Input = open(t, fixture.File(t, "in.csv", "application_id,status,url,link_id,attempts,possible_duplicates,expires_at,reason\n"+
		"A-1,created,https://faceki.example/1,L-1,2,1,2026-12-01T00:00:00Z,\nA-2,failed,,,1,0,,timeout: late\nA-1,rejected,,,0,0,,conflict: x\n"))
	if _, err := j.Scan(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	if p := h.do(j); p.Finished() != 3 || p.Rejected != 1 {
		t.Errorf("got progress %+v at the end, want 3 rows finished and 1 rejected", p)
	}
	expect(t, h.write(j), "A-1 created L-1 2 1", "A-2 created L-A-2-1 1 0", "A-1 rejected 0 0 invalid")
	if !strings.Contains(fixture.Read(t, h.out), "https://faceki.example/1,2026-12-01T00:00:00Z,,2,1\n") || h.calls["A-1"] != 0 {
		t.Errorf("got OUT\n%s\nand %d calls of A-1, want its link and no call", fixture.Read(t, h.out), h.calls["A-1"])
	}
}

// A row that was rejected with an existing link gets no second one, and a copied row does
// not get the link of another person.
func TestJob_RefusesLinksOfOtherContentOrRows(t *testing.T) {
	t.Parallel()
	const text = "application_id,status,link_id,url,reason\n" +
		"A-1,created,L-1,https://faceki.example/1,\nA-2,rejected,L-2,https://faceki.example/2,conflict: x\n" +
		"A-3,created,L-1,https://faceki.example/1,\nA-1,created,L-1,https://faceki.example/1,\n"
	for name, input := range map[string]string{"in.csv": text, "in.ndjson": ndjson(text)} {
		h := newHarness(t)
		j := h.job("run", "X,,,")
		j.Input = open(t, fixture.File(t, name, input))
		scan, err := j.Scan(t.TempDir())
		if err != nil || scan.Linked != 2 {
			t.Errorf("%s: got scan %+v, %v; want 2 linked", name, scan, err)
		}
		if p := h.do(j); p.Finished() != 4 || p.Rejected != 2 {
			t.Errorf("%s: got progress %+v at the end, want 4 rows finished and 2 rejected", name, p)
		}
		expect(t, h.write(j), "A-1 created L-1 0 0", "A-2 rejected L-2 0 0 invalid", "A-3 rejected 0 0 invalid", "A-1 created L-1 0 0")
		if len(h.calls) != 0 {
			t.Errorf("%s: got calls %v, want none", name, h.calls)
		}
	}
}

// ndjson converts a CSV without quotes to NDJSON.
func ndjson(text string) string {
	var b strings.Builder
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for _, line := range lines[1:] {
		members := make(map[string]string)
		for i, cell := range strings.Split(line, ",") {
			members[strings.Split(lines[0], ",")[i]] = cell
		}
		raw, _ := json.Marshal(members) //nolint:errchkjson // strings can be written
		b.Write(append(raw, '\n'))
	}
	return b.String()
}
