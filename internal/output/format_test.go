package output

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/kyclink/kyclink/internal/column"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/input"
	"github.com/kyclink/kyclink/tasks"
)

// The requests are converted to the other format and back.
func TestResults_KeepRequestsThroughEachFormat(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		want := rapid.SliceOfN(rapid.Custom(drawRequest), 1, 5).Draw(rt, "requests")
		var text strings.Builder
		for _, r := range want {
			line, err := json.Marshal(r)
			if err != nil {
				rt.Fatal(err)
			}
			text.Write(append(line, '\n'))
		}
		in := openFuzzed(t, dir, "a.ndjson", []byte(text.String()))
		defer in.Close()
		table := filepath.Join(dir, "b.csv")
		writeResults(t, in, table)
		back := openFuzzed(t, dir, "b.csv", []byte(fixture.Read(t, table)))
		defer back.Close()
		lines := filepath.Join(dir, "c.ndjson")
		writeResults(t, back, lines)
		for i, row := range rows(t, back) {
			r := want[i]
			if r.Lane == "" {
				r.Lane = tasks.Bulk
			}
			if row.Err != nil || !reflect.DeepEqual(row.Request, r) {
				rt.Fatalf("as CSV: got %+v, %v; want %+v", row.Request, row.Err, r)
			}
		}
		for i, line := range strings.Split(strings.TrimSpace(fixture.Read(t, lines)), "\n") {
			members, _ := input.Members([]byte(line))
			kept := make(map[string]json.RawMessage)
			for _, m := range members {
				if !column.IsResult(m.Key) {
					kept[m.Key] = m.Value
				}
			}
			again, err := json.Marshal(kept)
			if err != nil {
				rt.Fatal(err)
			}
			if got, err := tasks.ParseRequest(again); err != nil || !reflect.DeepEqual(got, want[i]) {
				rt.Fatalf("as JSON again: got %+v, %v; want %+v", got, err, want[i])
			}
		}
	})
}

func drawRequest(t *rapid.T) tasks.Request {
	optional := func(name string, values ...string) string {
		return rapid.SampledFrom(append(values, "")).Draw(t, name)
	}
	r := tasks.Request{
		ApplicationID: rapid.StringMatching(`[-A-Za-z0-9"',;:äß愛]{1,20}`).Filter(func(id string) bool { return !strings.HasPrefix(id, "'-") }).Draw(t, "id"),
		RedirectURL:   optional("redirect", "https://shop.example/done?a=1&b=<2>", `https://shop.example/"x",y`),
		ExpiryMinutes: rapid.IntRange(0, tasks.MaxExpiryMinutes).Draw(t, "expiry"),
		WorkflowID:    optional("workflow", "w-1", `w"2"`),
		Lane:          tasks.Lane(optional("lane", "bulk", "interactive")),
		CallbackURL:   optional("callback", "https://shop.example/hooks"),
		Generation:    rapid.IntRange(0, tasks.MaxGeneration).Draw(t, "generation"),
	}
	if rapid.Bool().Draw(t, "has option") {
		b := rapid.Bool().Draw(t, "option")
		r.DocumentOptional = &b
	}
	if rapid.Bool().Draw(t, "has deadline") {
		r.NotAfter = time.Unix(rapid.Int64Range(1e9, 4e9).Draw(t, "deadline"), 0).UTC()
	}
	if m := optional("metadata", `{"a":"b\n\"c\"","n":1.50}`, `{}`, `{"愛":[null,true]}`); m != "" {
		r.Metadata = json.RawMessage(m)
	}
	return r
}

func TestAppendValue_KnowsAllKeys(t *testing.T) {
	// typed lists the keys that are not strings, and a new key may have to be added there.
	const known = "[application_id redirect_url expiry_minutes document_optional workflow_id lane callback_url not_after generation metadata]"
	if got := fmt.Sprint(tasks.Keys()); got != known {
		t.Errorf("a request has the keys %s, but typed was written for %s", got, known)
	}
}

// FuzzCarriedCells checks that other columns have the same cells after reading, writing and reading again.
func FuzzCarriedCells(f *testing.F) {
	f.Add("a", "b\r\nc")
	f.Add("\r\n", "\"\n\r\r\n\"")
	f.Add(" x\r", "\\.")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, one, two string) {
		var buf bytes.Buffer
		w := csv.NewWriter(&buf)
		for _, record := range [][]string{{"one", "application_id", "two"}, {one, "A-1", two}, {two, "A-2", one}} {
			if err := w.Write(record); err != nil {
				t.Fatal(err)
			}
		}
		w.Flush()
		if buf.Len() > 1<<20 {
			return
		}
		in := openFuzzed(t, dir, "a.csv", buf.Bytes())
		defer in.Close()
		out := filepath.Join(dir, "out.csv")
		writeResults(t, in, out)
		again := openFuzzed(t, dir, "out.csv", []byte(fixture.Read(t, out)))
		defer again.Close()
		for _, got := range [][]input.Row{rows(t, in), rows(t, again)} {
			if len(got) != 2 || got[0].Cells[0] != one || got[0].Cells[2] != two || got[1].Cells[0] != two || got[1].Cells[2] != one {
				t.Fatalf("got %+v, want %q and %q", got, one, two)
			}
		}
	})
}

func FuzzNDJSONResults(f *testing.F) {
	for _, s := range []string{`{"application_id":"A-1"}`, "{\n}\n\n[]", `{"application_id":"A-1","status":1,"a":{"b":[null]}}`, "\xff", `{"":1}`} {
		f.Add([]byte(s))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		in := openFuzzed(t, dir, "a.ndjson", data)
		if in == nil {
			return
		}
		defer in.Close()
		out := filepath.Join(dir, "out.ndjson")
		writeResults(t, in, out)
		lines := strings.Split(strings.TrimSuffix(fixture.Read(t, out), "\n"), "\n")
		all := rows(t, in)
		if len(all) == 0 {
			return
		}
		if len(lines) != len(all) {
			t.Fatalf("got %d lines for %d rows", len(lines), len(all))
		}
		for _, line := range lines {
			if _, ok := input.Members([]byte(line)); !ok {
				t.Fatalf("got line %q, want a JSON object", line)
			}
		}
	})
}
