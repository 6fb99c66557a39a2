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
	t.Parallel()
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
				t.Errorf("Records returned %v, want only those from before Open", got)
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

// show formats records as "[id:generation state attempts, ...]".
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

// goodLine is the line of request A-1 with a link.
const goodLine = `{"record":{"application_id":"A-1","state":"created","lane":"bulk","generation":1,"run":1,"attempts":1,` +
	`"accepted_at":"2026-11-23T12:00:00Z","changed_at":"2026-11-23T12:00:00Z"}}` + "\n"

// A process may be killed while it writes a line. Wherever the line ends, the next one
// has everything before it, and can append.
func TestRecords_SurviveATruncatedLastLine(t *testing.T) {
	t.Parallel()
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
			t.Fatalf("truncated to %d bytes: got %s, want %s", size, got, want)
		}
		add(t, j, snap("A-9", request.Created, 1))
		closeJournal(t, j)
		j = openJournal(t, out)
		want = strings.TrimPrefix(strings.Replace(want, "]", ", A-9 created 1]", 1), "[, ")
		if got := show(records(t, j)); strings.TrimPrefix(got, "[") != strings.TrimPrefix(want, "[") {
			t.Fatalf("truncated to %d bytes and continued: got %s, want %s", size, got, want)
		}
		closeJournal(t, j)
	}
}

func TestRecords_SurviveALongTruncatedLastLine(t *testing.T) {
	t.Parallel()
	out := filepath.Join(t.TempDir(), "out.csv")
	text := embeddedLine + goodLine + strings.Repeat("x", 200_000)
	if err := os.WriteFile(out+".journal", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	j := openJournal(t, out)
	defer closeJournal(t, j)
	if got := show(records(t, j)); got != "[A-1 created 1]" {
		t.Errorf("got %s, want [A-1 created 1]", got)
	}
}

func TestRecords_RefuseAnInvalidLine(t *testing.T) {
	t.Parallel()
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
			t.Errorf("%q: got %v, want an error of line 3", broken, failed)
		}
		closeJournal(t, j)
		if got := fixture.Read(t, out+".journal"); got != text {
			t.Errorf("%q: the journal was changed", broken)
		}
	}
}

// In full, every field is set that the journal stores.
func TestSnapshot_KeepsAllFields(t *testing.T) {
	t.Parallel()
	notKept := map[string]bool{"CancelAsked": true, "Turn": true, "Batch": true, "Seen": true, "Holder": true, "NoDeadline": true}
	v := reflect.ValueOf(full)
	for i := range v.NumField() {
		if name := v.Type().Field(i).Name; v.Field(i).IsZero() != notKept[name] {
			t.Errorf("request.Record.%s is new: set it in full if the journal stores it, or add it to the list", name)
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
				t.Fatalf("record %+v was read, but cannot be encoded: %q, %v", r, raw, err)
			}
		}
	})
}
