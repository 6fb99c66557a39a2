package bulk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/kyclink/kyclink/internal/record"
)

func TestStates(t *testing.T) {
	second := intent("A-1", 1)
	second.Generation = 2
	for _, c := range []struct {
		name    string
		entries []Entry
		want    string
	}{
		{"nothing", nil, "[]"},
		{"the latest", []Entry{snap("A-1", record.Waiting, 1), snap("A-2", record.Waiting, 0), snap("A-1", record.Created, 2)}, "[A-2 waiting 0, A-1 created 2]"},
		{"an intent alone", []Entry{intent("A-1", 1)}, "[A-1 called 1]"},
		{"intents alone", []Entry{intent("A-1", 1), snap("A-2", record.Created, 1), intent("A-1", 2)}, "[A-1 called 2, A-2 created 1]"},
		{"answered", []Entry{intent("A-1", 1), snap("A-1", record.Created, 1)}, "[A-1 created 1]"},
		{"not answered", []Entry{snap("A-1", record.Waiting, 1), snap("A-2", record.Created, 1), intent("A-1", 2)}, "[A-1 waiting 1 called 2, A-2 created 1]"},
		{"calling is no answer", []Entry{intent("A-1", 1), snap("A-1", record.Calling, 1)}, "[A-1 calling 1 called 1]"},
		{"generations are apart", []Entry{snap("A-1", record.Created, 1), second}, "[A-1 created 1, A-1 called 1]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out.csv")
			j := openJournal(t, out)
			add(t, j, c.entries...)
			if got := states(t, j); len(got) != 0 {
				t.Errorf("what was appended since is given as well: %v", got)
			}
			closeJournal(t, j)
			j = openJournal(t, out)
			defer closeJournal(t, j)
			if got := show(states(t, j)); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func show(all []State) string {
	var parts []string
	for _, s := range all {
		var words []string
		if s.Record != nil {
			words = append(words, fmt.Sprint(s.Record.ApplicationID, " ", s.Record.State, " ", s.Record.Attempts))
		} else {
			words = append(words, s.Intent.ApplicationID)
		}
		if s.Intent != nil {
			words = append(words, fmt.Sprint("called ", s.Intent.Attempt))
		}
		parts = append(parts, strings.Join(words, " "))
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

// A run is killed while it writes: whatever is there of its last line, the
// next run has everything before it, and goes on.
func TestTornLine(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out.csv")
	j := openJournal(t, out)
	add(t, j, snap("A-1", record.Created, 1))
	before := len(read(t, out+".journal"))
	add(t, j, Snapshot(full))
	closeJournal(t, j)
	whole := read(t, out+".journal")
	for size := range len(whole) {
		want := "[A-1 created 1]"
		if size < before {
			want = "[]"
		}
		if err := os.WriteFile(out+".journal", []byte(whole[:size]), 0o600); err != nil {
			t.Fatal(err)
		}
		j := openJournal(t, out)
		if got := show(states(t, j)); got != want {
			t.Fatalf("cut at %d: got %s, want %s", size, got, want)
		}
		add(t, j, snap("A-9", record.Created, 1))
		closeJournal(t, j)
		j = openJournal(t, out)
		want = strings.TrimPrefix(strings.Replace(want, "]", ", A-9 created 1]", 1), "[, ")
		if got := show(states(t, j)); strings.TrimPrefix(got, "[") != strings.TrimPrefix(want, "[") {
			t.Fatalf("cut at %d and gone on: got %s, want %s", size, got, want)
		}
		closeJournal(t, j)
	}
}

func TestLongTornLine(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out.csv")
	text := embeddedLine + `{"record":{"application_id":"A-1","state":"created","generation":1,"attempts":1}}` + "\n" + strings.Repeat("x", 200_000)
	if err := os.WriteFile(out+".journal", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	j := openJournal(t, out)
	defer closeJournal(t, j)
	if got := show(states(t, j)); got != "[A-1 created 1]" {
		t.Errorf("got %s", got)
	}
}

func TestBrokenLine(t *testing.T) {
	for _, broken := range []string{"", "{", "null", "{}", "\x00\x00", `{"intent":{"application_id":""}}`, `{"record":{"application_id":"A-1"},"intent":{"application_id":"A-1"}}`, `{"journal":{}}`} {
		out := filepath.Join(t.TempDir(), "out.csv")
		good := `{"intent":{"application_id":"A-1","generation":1,"run":1,"attempt":1}}` + "\n"
		text := embeddedLine + good + broken + "\n" + good
		if err := os.WriteFile(out+".journal", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		j := openJournal(t, out)
		var failed error
		for _, err := range j.States() {
			failed = err
		}
		var trouble *OutputError
		if !errors.As(failed, &trouble) || !strings.Contains(failed.Error(), "is broken at line 3;") {
			t.Errorf("%q: got %v", broken, failed)
		}
		closeJournal(t, j)
		if got := read(t, out+".journal"); got != text {
			t.Errorf("%q: the journal was changed", broken)
		}
	}
}

// full has every member set that the journal keeps, so that none is forgotten.
func TestSnapshotKeepsAll(t *testing.T) {
	notKept := map[string]bool{"CancelAsked": true, "Turn": true, "Batch": true, "Seen": true, "Holder": true}
	v := reflect.ValueOf(full)
	for i := range v.NumField() {
		if name := v.Type().Field(i).Name; v.Field(i).IsZero() != notKept[name] {
			t.Errorf("record.Record.%s: is the journal to keep it?", name)
		}
	}
}
