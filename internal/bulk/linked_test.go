package bulk

import (
	"encoding/json"
	"strings"
	"testing"
)

// A row that was refused with the link that exists is not paid for in the next run,
// and a row that was copied with the link of another person does not get that link.
func TestLinksOfOtherContentAndRows(t *testing.T) {
	t.Parallel()
	const text = "application_id,status,link_id,url,reason\n" +
		"A-1,created,L-1,https://faceki.example/1,\nA-2,rejected,L-2,https://faceki.example/2,conflict: x\n" +
		"A-3,created,L-1,https://faceki.example/1,\nA-1,created,L-1,https://faceki.example/1,\n"
	for name, input := range map[string]string{"in.csv": text, "in.ndjson": ndjson(text)} {
		h := newHarness(t)
		j := h.job("run", "X,,,")
		j.Input = open(t, file(t, name, input))
		survey, err := j.Survey(t.TempDir())
		if err != nil || survey.Linked != 2 {
			t.Errorf("%s: %+v (%v)", name, survey, err)
		}
		if p := h.working(j); p.Settled() != 4 || p.Rejected != 2 {
			t.Errorf("%s: in the end %+v", name, p)
		}
		expect(t, h.export(j), "A-1 created L-1 0 0", "A-2 rejected L-2 0 0 invalid", "A-3 rejected 0 0 invalid", "A-1 created L-1 0 0")
		if len(h.calls) != 0 {
			t.Errorf("%s: calls %v", name, h.calls)
		}
	}
}

// ndjson writes the rows of a CSV without quotes as objects.
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
