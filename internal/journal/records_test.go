package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/request"
)

func TestRecords_AreTheLatestOfEachGeneration(t *testing.T) {
	second := calling("A-1")
	second.Generation = 2
	for _, c := range []struct {
		name      string
		snapshots []request.Record
		want      string
	}{
		{"nothing", nil, "[]"},
		{"the latest", []request.Record{snap("A-1", request.Waiting, 1), snap("A-2", request.Waiting, 0), snap("A-1", request.Created, 2)}, "[A-2 waiting 0, A-1 created 2]"},
		{"a call alone", []request.Record{calling("A-1")}, "[A-1 calling 1]"},
		{"calls alone", []request.Record{calling("A-1"), snap("A-2", request.Created, 1), snap("A-1", request.Calling, 2)}, "[A-2 created 1, A-1 calling 2]"},
		{"answered", []request.Record{calling("A-1"), snap("A-1", request.Created, 1)}, "[A-1 created 1]"},
		{"not answered", []request.Record{snap("A-1", request.Waiting, 1), snap("A-2", request.Created, 1), snap("A-1", request.Calling, 2)}, "[A-2 created 1, A-1 calling 2]"},
		{"generations are apart", []request.Record{snap("A-1", request.Created, 1), second}, "[A-1 created 1, A-1:2 calling 1]"},
		{"an old generation's late line", []request.Record{second, snap("A-1", request.Created, 1)}, "[A-1:2 calling 1, A-1 created 1]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out.csv")
			j := openJournal(t, out)
			add(t, j, c.snapshots...)
			if got := records(t, j); len(got) != 0 {
				t.Errorf("what was appended since is given as well: %v", got)
			}
			closeJournal(t, j)
			j = openJournal(t, out)
			defer closeJournal(t, j)
			if got := show(records(t, j)); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func show(all []request.Record) string {
	parts := make([]string, len(all))
	for i, r := range all {
		id := r.ApplicationID
		if r.Generation > 1 {
			id = fmt.Sprint(id, ":", r.Generation)
		}
		parts[i] = fmt.Sprint(id, " ", r.State, " ", r.Attempts)
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

// goodLine is A-1, created.
const goodLine = `{"record":{"application_id":"A-1","state":"created","lane":"bulk","generation":1,"run":1,"attempts":1,` +
	`"accepted_at":"2026-11-23T12:00:00Z","changed_at":"2026-11-23T12:00:00Z"}}` + "\n"

// A run is killed while it writes: whatever is there of its last line, the
// next run has everything before it, and goes on.
func TestRecords_SurviveATruncatedLastLine(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out.csv")
	j := openJournal(t, out)
	add(t, j, snap("A-1", request.Created, 1))
	before := len(fixture.Read(t, out+".journal"))
	add(t, j, full)
	closeJournal(t, j)
	whole := fixture.Read(t, out+".journal")
	for size := range len(whole) {
		want := "[A-1 created 1]"
		if size < before {
			want = "[]"
		}
		if err := os.WriteFile(out+".journal", []byte(whole[:size]), 0o600); err != nil {
			t.Fatal(err)
		}
		j := openJournal(t, out)
		if got := show(records(t, j)); got != want {
			t.Fatalf("cut at %d: got %s, want %s", size, got, want)
		}
		add(t, j, snap("A-9", request.Created, 1))
		closeJournal(t, j)
		j = openJournal(t, out)
		want = strings.TrimPrefix(strings.Replace(want, "]", ", A-9 created 1]", 1), "[, ")
		if got := show(records(t, j)); strings.TrimPrefix(got, "[") != strings.TrimPrefix(want, "[") {
			t.Fatalf("cut at %d and gone on: got %s, want %s", size, got, want)
		}
		closeJournal(t, j)
	}
}

func TestRecords_SurviveALongTruncatedLastLine(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out.csv")
	text := embeddedLine + goodLine + strings.Repeat("x", 200_000)
	if err := os.WriteFile(out+".journal", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	j := openJournal(t, out)
	defer closeJournal(t, j)
	if got := show(records(t, j)); got != "[A-1 created 1]" {
		t.Errorf("got %s", got)
	}
}

func TestRecords_RefuseAnInvalidLine(t *testing.T) {
	change := func(old, by string) string { return strings.Replace(strings.TrimSuffix(goodLine, "\n"), old, by, 1) }
	for _, broken := range []string{
		"", "{", "null", "{}", "\x00\x00", `{"record":null}`, `{"record":{"application_id":"A-1"}}`, `{"journal":{}}`,
		change(`{"record"`, `{"journal":{},"record"`), change("A-1", ""), change("created", "made"), change("bulk", ""),
		change(`"generation":1`, `"generation":0`), change("2026-11-23T12:00:00Z", "0001-01-01T00:00:00Z"),
	} {
		out := filepath.Join(t.TempDir(), "out.csv")
		text := embeddedLine + goodLine + broken + "\n" + goodLine
		if err := os.WriteFile(out+".journal", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		j := openJournal(t, out)
		var failed error
		for _, err := range j.Records() {
			failed = err
		}
		var trouble *Error
		if !errors.As(failed, &trouble) || !strings.Contains(failed.Error(), "line 3 is invalid: ") {
			t.Errorf("%q: got %v", broken, failed)
		}
		closeJournal(t, j)
		if got := fixture.Read(t, out+".journal"); got != text {
			t.Errorf("%q: the journal was changed", broken)
		}
	}
}

// full has every member set that the journal keeps, so that none is forgotten.
func TestSnapshot_KeepsAllFields(t *testing.T) {
	notKept := map[string]bool{"CancelAsked": true, "Turn": true, "Batch": true, "Seen": true, "Holder": true, "NoDeadline": true}
	v := reflect.ValueOf(full)
	for i := range v.NumField() {
		if name := v.Type().Field(i).Name; v.Field(i).IsZero() != notKept[name] {
			t.Errorf("request.Record.%s: is the journal to keep it?", name)
		}
	}
}

func FuzzJournal(f *testing.F) {
	f.Add([]byte(strings.ReplaceAll(goodLine, "created\"", "calling\"")))
	f.Add([]byte(goodLine + `{"rec`))
	f.Add([]byte(strings.ReplaceAll(goodLine, `"bulk"`, `"bulk","content":{"metadata":{"a":"\u2028"}},"past":[{"run":1}]`)))
	f.Add([]byte("{}\n"))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		out := filepath.Join(dir, "out.csv")
		if err := os.WriteFile(out+".journal", append([]byte(embeddedLine), data...), 0o600); err != nil {
			t.Fatal(err)
		}
		j, err := Open(out, embedded, false)
		if err != nil {
			t.Fatal(err)
		}
		defer j.Close()
		for r, err := range j.Records() {
			if err != nil {
				return
			}
			if raw, err := r.Encode(); err != nil || r.ApplicationID == "" {
				t.Fatalf("%+v cannot be put back: %q, %v", r, raw, err)
			}
		}
	})
}
