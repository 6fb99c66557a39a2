package bulk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/kyclink/kyclink/tasks"
)

func squeeze(t *testing.T, suffix, text string) string {
	t.Helper()
	var out bytes.Buffer
	switch suffix {
	case ".gz":
		w := gzip.NewWriter(&out)
		if _, err := w.Write([]byte(text)); err != nil || w.Close() != nil {
			t.Fatal(err)
		}
	case ".zst":
		w, err := zstd.NewWriter(&out)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil || w.Close() != nil {
			t.Fatal(err)
		}
	default:
		return text
	}
	return out.String()
}

func idsOf(all []Row) (list []string) {
	for _, row := range all {
		list = append(list, row.Request.ApplicationID)
	}
	return list
}

// Every format in every wrapping gives the same rows, however often a file is
// read.
func TestWrappedInput(t *testing.T) {
	for _, name := range []string{"a.csv", "a.ndjson"} {
		text := "\ufeffapplication_id\r\nA-1\r\nA-2"
		if name == "a.ndjson" {
			text = "\ufeff{\"application_id\":\"A-1\"}\r\n{\"application_id\":\"A-2\"}"
		}
		for _, suffix := range []string{"", ".gz", ".zst", ".GZ"} {
			t.Run(name+suffix, func(t *testing.T) {
				path := file(t, name+suffix, squeeze(t, strings.ToLower(suffix), text))
				in := open(t, path)
				for range 2 {
					if got := idsOf(rows(t, in)); fmt.Sprint(got) != "[A-1 A-2]" {
						t.Errorf("got %v", got)
					}
				}
				once, err := OpenStream(t.Context(), path, Reading{})
				if err != nil {
					t.Fatal(err)
				}
				defer once.Close()
				if got := idsOf(rows(t, once)); fmt.Sprint(got) != "[A-1 A-2]" {
					t.Errorf("as a stream: %v", got)
				}
				if read, size := once.Size(); read != size || size == 0 {
					t.Errorf("%d of %d bytes were read", read, size)
				}
				for _, err := range once.Rows() {
					if unusable := new(InputError); !errors.As(err, &unusable) {
						t.Errorf("a stream was read again: %v", err)
					}
				}
			})
		}
	}
}

// Half a compressed file is an error, and never taken for a shorter one.
func TestTornCompressedInput(t *testing.T) {
	text := "application_id\n" + strings.Join(strings.Split(fmt.Sprint(make([]int, 5000)), " "), "\n")
	for _, suffix := range []string{".gz", ".zst"} {
		whole := squeeze(t, suffix, text)
		for _, size := range []int{3, 12, len(whole) / 2, len(whole) - 1} {
			in, err := Open(file(t, "a.csv"+suffix, whole[:size]), Reading{})
			if err == nil {
				for _, rowErr := range in.Rows() {
					err = rowErr
				}
				_ = in.Close()
			}
			if unusable := new(InputError); !errors.As(err, &unusable) {
				t.Errorf("%s cut at %d of %d: %v", suffix, size, len(whole), err)
			}
		}
	}
}

func TestReading(t *testing.T) {
	ref := map[string]string{"application_id": "Ref", "redirect_url": "application_id"}
	for _, c := range []struct {
		name, file, content string
		reading             Reading
		want                string
	}{
		{"semicolons", "a.csv", "x;application_id\n\"a;\"\"b\";A-1\n", Reading{Delimiter: ';'}, "[A-1]"},
		{"tabs", "a.csv", "x\tapplication_id\na,b\tA-1\n", Reading{Delimiter: '\t'}, "[A-1]"},
		{"mapped", "a.csv", "application_id,Ref\nhttps://shop.example/,A-1\n", Reading{Columns: ref, Strict: true}, "[A-1]"},
		{"mapped NDJSON", "a.ndjson", `{"application_id":"https://shop.example/","Ref":"A-1"}`, Reading{Columns: ref}, "[A-1]"},
		{"a format that is given", "a.txt", "application_id\nA-1\n", Reading{Format: CSV}, "[A-1]"},
		{"a stranger", "a.csv", "application_id,Colour,Size\n", Reading{Strict: true}, `has unknown columns "Colour", "Size"; map them with --map KEY=COLUMN, or leave them out with --ignore-unknown`},
		{"no such column", "a.csv", "application_id,Reference\n", Reading{Columns: ref}, `has no column "Ref", which was to be taken for application_id; it has "application_id", "Reference"`},
		{"both", "a.csv", "Ref,application_id\n", Reading{Columns: map[string]string{"application_id": "Ref"}}, `has a column "application_id", which means application_id, and "Ref" was to be taken for it; rename or remove one`},
		{"twice", "a.csv", "Ref,Ref\n", Reading{Columns: map[string]string{"application_id": "Ref"}}, "has two columns named Ref; rename or remove one"},
		{"another delimiter", "a.csv", "application_id;lane\n", Reading{Delimiter: ',', Strict: true}, "has no column application_id; its first line must name the columns, application_id among them, separated by commas"},
		{"unknown suffix", "a.txt", "application_id\n", Reading{}, "has a suffix that is not known; it must end in .csv, .xlsx, .ndjson or .jsonl, which may be followed by .gz or .zst, or say --format"},
	} {
		t.Run(c.name, func(t *testing.T) {
			in, err := OpenStream(t.Context(), file(t, c.file, c.content), c.reading)
			if err != nil {
				if !strings.Contains(err.Error(), " "+c.want) {
					t.Errorf("got %v\nwant %s", err, c.want)
				}
				return
			}
			defer in.Close()
			if got := fmt.Sprint(idsOf(rows(t, in))); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// A pipe that nobody writes to does not hold an import that is stopped.
func TestStoppedPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	defer r.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("stopped")
	go func() {
		_, _ = w.WriteString("application_id\nA-1\n")
		cancel(why)
	}()
	in := &Input{path: "pipe", format: CSV, file: r, stream: true, ended: ctx}
	if in, err = in.start(); err == nil {
		for _, rowErr := range in.Rows() {
			err = rowErr
		}
	}
	if !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
}

// importer imports a file into a Redis of its own account.
func importer(t *testing.T, h *harness, name, content string, r Reading) (*Import, *[]string) {
	t.Helper()
	in, err := OpenStream(t.Context(), file(t, name, content), r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close() })
	var rejects []string
	return &Import{
		Input: in, Batch: tasks.Batch{Name: "spring"}, Client: h.Client,
		Reject: func(r Reject) error { rejects = append(rejects, r.String()); return nil },
	}, &rejects
}

const nasty = "\ufeffRef;redirect_url;metadata;generation\r\n" +
	"A-1;https://shop.example/;\"{\"\"a\"\": \"\"b;c\"\"}\";\r\n" +
	"A-2;http://plain.example/;;0\r\n" + // two problems
	"A-1;https://shop.example/;\"{\"\"a\"\":\"\"b;c\"\"}\";\r\n" + // a duplicate
	"A-3;\"x\"y\";;\r\n" + // broken quoting
	"A-1;https://other.example/;\"{}\";\r\n" + // a conflict
	"A-4;;;3\r\n" + // no such generation
	"JOINED;;;\r\n" +
	"\xff;;;\r\n" +
	"=A-5;;;\r\n"

func TestImportOfANastyFile(t *testing.T) {
	h := newHarness(t)
	if _, err := h.Client.Enqueue(t.Context(), tasks.Request{ApplicationID: "JOINED"}); err != nil {
		t.Fatal(err)
	}
	reading := Reading{Delimiter: ';', Columns: map[string]string{"application_id": "Ref"}, Strict: true}
	want := Counts{Rows: 9, Accepted: 2, Repeated: 1, Joined: 1, Conflicts: 1, Refused: 1, Invalid: 3}

	i, _ := importer(t, h, "a.csv", nasty, reading)
	r, err := i.Rehearse(t.Context())
	foreseen := want
	foreseen.Repeated, foreseen.Conflicts = 2, 0 // of rows that are not accepted yet
	if err != nil || r.Counts != foreseen || r.Expiries[0] != 4 {
		t.Errorf("rehearsed %+v, %v, %v", r.Counts, r.Expiries, err)
	}
	if n := h.Redis.HLen(t.Context(), h.ledger.Keys().Batches()).Val(); n != 0 {
		t.Error("the rehearsal made a batch")
	}

	path := filepath.Join(t.TempDir(), "rejects.csv")
	i, _ = importer(t, h, "a.csv", nasty, reading)
	rejects, err := CreateRejects(path, i.Input, false)
	if err != nil {
		t.Fatal(err)
	}
	i.Reject, i.Whole = rejects.Write, true
	counts, err := i.Run(t.Context())
	if err = errors.Join(err, rejects.Close()); err != nil || counts != want {
		t.Errorf("imported %+v, %v", counts, err)
	}
	goldenFile := filepath.Join("testdata", "rejects.golden")
	got := read(t, path)
	if *update {
		if err := os.WriteFile(goldenFile, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if want := read(t, goldenFile); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}

	i, _ = importer(t, h, "a.csv", nasty, reading)
	want.Accepted, want.Again = 0, 2
	if counts, err := i.Run(t.Context()); err != nil || counts != want {
		t.Errorf("imported again: %+v, %v", counts, err)
	}
	i, _ = importer(t, h, "a.csv", nasty, reading)
	if r, err := i.Rehearse(t.Context()); err != nil || r.Counts != want {
		// The ledger knows that the fifth row is in conflict, but not of which row.
		want.Again, want.Repeated = 2, 1
		t.Errorf("rehearsed again: %+v, %v", r.Counts, err)
	}
}

// Rejects that cannot be written end the import: nobody would learn of them.
func TestImportWithoutRejects(t *testing.T) {
	h := newHarness(t)
	i, _ := importer(t, h, "a.csv", "application_id\n"+strings.Repeat("a b\n", 5000), Reading{})
	full, calls := errors.New("disk full"), 0
	i.Reject = func(Reject) error { calls++; return full }
	if _, err := i.Run(t.Context()); !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
}

// Options are fixed by the first import, and names of those that differ are told.
func TestOptionsOfABatch(t *testing.T) {
	h := newHarness(t)
	due := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	for _, c := range []struct {
		options tasks.Options
		want    string
	}{
		{tasks.Options{ExpiryMinutes: 0, CallbackURL: "https://shop.example/"}, "callback_url: callbacks are off; omit the key, or add its host to KYCLINK_CALLBACK_HOSTS"},
		{tasks.Options{ExpiryMinutes: 60, NotAfter: due}, "<nil>"},
		{tasks.Options{}, "<nil>"},
		{tasks.Options{NotAfter: due}, "<nil>"},
		{tasks.Options{ExpiryMinutes: 61, WorkflowID: "w", NotAfter: due}, `batch "spring" has different values of expiry_minutes, workflow_id; omit these keys, or use another batch`},
	} {
		i, _ := importer(t, h, "a.csv", "application_id\nA-1\n", Reading{})
		i.Batch.Options = c.options
		r, foreseen := i.Rehearse(t.Context())
		i, _ = importer(t, h, "a.csv", "application_id\nA-1\n", Reading{})
		i.Batch.Options = c.options
		_, err := i.Run(t.Context())
		if fmt.Sprint(err) != c.want || fmt.Sprint(foreseen) != c.want {
			t.Errorf("%+v: %v, foreseen %v", c.options, err, foreseen)
		}
		if err == nil && (r.Options.ExpiryMinutes != 60 || !r.Options.NotAfter.Equal(due)) {
			t.Errorf("%+v: the batch has %+v", c.options, r.Options)
		}
	}
}

func TestRepeatsAreFoundInFiles(t *testing.T) {
	dir := t.TempDir()
	r := newRepeats(dir)
	defer r.close()
	const many = 50_000
	for i := range 3 * many {
		if err := r.add(fmt.Sprint(i%many), i+1, []tasks.Acceptance{tasks.Fresh, tasks.Earlier}[i%2]); err != nil {
			t.Fatal(err)
		}
	}
	found := map[byte]int{}
	err := r.each(func(again repeat) {
		found[again.how]++
		if again.first != (again.row-1)%many+1 {
			t.Errorf("row %d repeats row %d", again.row, again.first)
		}
	})
	if err != nil || found['f'] != many || found['a'] != many || r.piles[0].file == nil {
		t.Errorf("found %v, %v", found, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%v is left, %v", left, err)
	}
}
