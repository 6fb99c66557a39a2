package bulk

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/input"
	"github.com/kyclink/kyclink/internal/output"
	"github.com/kyclink/kyclink/tasks"
)

// newImport returns an import of a file into an account, and the rows that it rejects.
func newImport(t *testing.T, h *fixture.Account, name, content string, o input.Options) (*Import, *[]string) {
	t.Helper()
	in, err := input.OpenStream(t.Context(), fixture.File(t, name, content), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close() })
	var rejects []string
	return &Import{
		Input: in, Batch: tasks.Batch{Name: "spring"}, Client: h.Client,
		OnReject: func(r Reject) error { rejects = append(rejects, r.String()); return nil },
	}, &rejects
}

const mixedFile = "\ufeffRef;redirect_url;metadata;generation\r\n" +
	"A-1;https://shop.example/;\"{\"\"a\"\": \"\"b;c\"\"}\";\r\n" +
	"A-2;http://plain.example/;;0\r\n" + // two problems
	"A-1;https://shop.example/;\"{\"\"a\"\":\"\"b;c\"\"}\";\r\n" + // a duplicate
	"A-3;\"x\"y\";;\r\n" + // broken quoting
	"A-1;https://other.example/;\"{}\";\r\n" + // a conflict
	"A-4;;;3\r\n" + // no such generation
	"JOINED;;;\r\n" +
	"\xff;;;\r\n" +
	"=A-5;;;\r\n"

func TestImport_CountsEveryKindOfRow(t *testing.T) {
	h := fixture.NewAccount(t)
	if _, err := h.Client.Enqueue(t.Context(), tasks.Request{ApplicationID: "JOINED"}); err != nil {
		t.Fatal(err)
	}
	options := input.Options{Delimiter: ';', Columns: map[string]string{"application_id": "Ref"}, Strict: true}
	want := Counts{Rows: 9, Accepted: 2, Repeated: 1, Joined: 1, Conflicts: 1, Refused: 1, Invalid: 3}

	i, _ := newImport(t, h, "a.csv", mixedFile, options)
	r, err := i.DryRun(t.Context())
	predicted := want
	predicted.Repeated, predicted.Conflicts = 2, 0 // of rows that are not accepted yet
	if err != nil || r.Counts != predicted || r.Expiries[0] != 4 {
		t.Errorf("dry run: %+v, %v, %v", r.Counts, r.Expiries, err)
	}
	if n := h.Redis.HLen(t.Context(), h.Keys.Batches()).Val(); n != 0 {
		t.Error("the dry run made a batch")
	}

	path := filepath.Join(t.TempDir(), "rejects.csv")
	i, _ = newImport(t, h, "a.csv", mixedFile, options)
	rejects, err := output.CreateRejects(path, i.Input, false)
	fixture.Must(t, err)
	i.Rejects = rejects
	if counts, err := i.Run(t.Context()); err != nil || counts != want {
		t.Errorf("imported %+v, %v", counts, err)
	}
	goldenFile := filepath.Join("testdata", "rejects.golden")
	got := fixture.Read(t, path)
	if *update {
		if err := os.WriteFile(goldenFile, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if want := fixture.Read(t, goldenFile); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}

	i, _ = newImport(t, h, "a.csv", mixedFile, options)
	want.Accepted, want.Again = 0, 2
	if counts, err := i.Run(t.Context()); err != nil || counts != want {
		t.Errorf("imported again: %+v, %v", counts, err)
	}
	i, _ = newImport(t, h, "a.csv", mixedFile, options)
	if r, err := i.DryRun(t.Context()); err != nil || r.Counts != want {
		// The ledger knows that the fifth row is in conflict, but not of which row.
		want.Again, want.Repeated = 2, 1
		t.Errorf("second dry run: %+v, %v", r.Counts, err)
	}
}

// An import ends when a rejected row cannot be written: it would be lost.
// Hundreds of rows are in progress at a time, and each result belongs to its row.
func TestImport_RejectsEachRowByItsLineInALargeFile(t *testing.T) {
	h := fixture.NewAccount(t)
	var file, want strings.Builder
	file.WriteString("application_id,expiry_minutes\n")
	const rows = 5000
	for row := 1; row <= rows; row++ {
		expiry := "60"
		if row%7 == 0 {
			expiry = "no"
			fmt.Fprintf(&want, "row %d at line %d, invalid: expiry_minutes: must be a whole number\n", row, row+1)
		}
		fmt.Fprintf(&file, "R-%d,%s\n", row, expiry)
	}
	i, rejects := newImport(t, h, "a.csv", file.String(), input.Options{})
	counts, err := i.Run(t.Context())
	if err != nil || counts.Accepted != rows-rows/7 || counts.Invalid != rows/7 {
		t.Errorf("imported %+v, %v", counts, err)
	}
	if got := strings.Join(*rejects, "\n") + "\n"; got != want.String() {
		t.Errorf("rejected %.200s…, want %.200s…", got, want.String())
	}
}

func TestImport_EndsWhenARejectCannotBeWritten(t *testing.T) {
	h := fixture.NewAccount(t)
	i, _ := newImport(t, h, "a.csv", "application_id\n"+strings.Repeat("a b\n", 5000), input.Options{})
	full, calls := errors.New("disk full"), 0
	i.OnReject = func(Reject) error { calls++; return full }
	if _, err := i.Run(t.Context()); !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
}

// The first import fixes the options; an import with others is refused and names them.
func TestImport_RefusesOtherOptions(t *testing.T) {
	h := fixture.NewAccount(t)
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
		i, _ := newImport(t, h, "a.csv", "application_id\nA-1\n", input.Options{})
		i.Batch.Options = c.options
		r, predicted := i.DryRun(t.Context())
		i, _ = newImport(t, h, "a.csv", "application_id\nA-1\n", input.Options{})
		i.Batch.Options = c.options
		_, err := i.Run(t.Context())
		if fmt.Sprint(err) != c.want || fmt.Sprint(predicted) != c.want {
			t.Errorf("%+v: %v, predicted %v", c.options, err, predicted)
		}
		if err == nil && (r.Options.ExpiryMinutes != 60 || !r.Options.NotAfter.Equal(due)) {
			t.Errorf("%+v: the batch has %+v", c.options, r.Options)
		}
	}
}

var update = flag.Bool("update", false, "rewrite the golden files")

func TestMain(m *testing.M) { fixture.Main(m) }
