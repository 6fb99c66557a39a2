package bulk

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/kyclink/kyclink/internal/input"
	"github.com/kyclink/kyclink/internal/order"
	"github.com/kyclink/kyclink/internal/output"
	"github.com/kyclink/kyclink/internal/request"
)

// pages is a batch whose pages are as they are.
type pages struct {
	order  [][]order.Row
	stored map[string]request.Record
	raw    map[string]string
	broken error // after the last page
}

func (p pages) Order(context.Context, int) iter.Seq2[[]order.Row, error] {
	return func(yield func([]order.Row, error) bool) {
		for _, page := range p.order {
			if !yield(page, nil) {
				return
			}
		}
		if p.broken != nil {
			yield(nil, p.broken)
		}
	}
}

func (p pages) Latest(_ context.Context, ids []string) ([][]byte, error) {
	out := make([][]byte, len(ids))
	for i, id := range ids {
		if r, ok := p.stored[id]; ok {
			raw, err := r.Encode()
			if err != nil {
				return nil, err
			}
			out[i] = raw
		}
		if raw, ok := p.raw[id]; ok {
			out[i] = []byte(raw)
		}
	}
	return out, nil
}

func somePages() pages {
	yes, at := true, time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)
	base := request.Record{Lane: request.Bulk, Generation: 1, Run: 1, AcceptedAt: at, ChangedAt: at}
	waiting, created, failed := base, base, base
	waiting.State = request.Waiting
	waiting.Content = request.Content{
		RedirectURL: "https://shop.example/a,b", ExpiryMinutes: 60, DocumentOptional: &yes, WorkflowID: "=w",
		NotAfter: at.Add(time.Hour), Metadata: []byte(`{"customer":"42"}`), Row: 1,
	}
	created.State, created.Generation, created.Attempts, created.PossibleDuplicates = request.Created, 2, 3, 1
	created.Outcome = request.Outcome{Run: 1, Status: request.Created, LinkID: "l-1", URL: "https://simulator.invalid/l-1", ExpiresAt: at}
	failed.State = request.Failed
	failed.Outcome = request.Outcome{Run: 1, Status: request.Failed, Reason: "invalid_request", Message: "an invented message"}
	return pages{
		order:  [][]order.Row{{{Row: 1, ApplicationID: "A-1"}, {Row: 2, ApplicationID: "A-2"}}, {{Row: 3}, {Row: 5, ApplicationID: "A-3"}}, {{Row: 6, ApplicationID: "A-4"}}},
		stored: map[string]request.Record{"A-1": waiting, "A-2": created, "A-3": failed},
		raw:    map[string]string{"A-4": "9 of a newer version " + strings.Repeat("x", 80)},
	}
}

func exported(t *testing.T, e Export) string {
	t.Helper()
	var out bytes.Buffer
	e.Ledger, e.Now = somePages(), time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)
	summary, err := e.Write(t.Context(), &out)
	if err != nil {
		t.Fatal(err)
	}
	if n := summary["created"]; n != 1 {
		t.Errorf("%d are created: %v", n, summary)
	}
	return out.String()
}

func TestExport_WritesEachFormat(t *testing.T) {
	const header = "application_id,redirect_url,expiry_minutes,document_optional,workflow_id,lane,callback_url,not_after,generation,metadata," +
		"status,link_id,url,expires_at,reason,attempts,possible_duplicates\n"
	const expired = "A-2,,,,,bulk,,,2,,created,l-1,https://simulator.invalid/l-1,2026-11-24T10:00:00Z,,3,1\n"
	want := header +
		`A-1,"https://shop.example/a,b",60,true,=w,bulk,,2026-11-24T11:00:00Z,1,"{""customer"":""42""}",waiting,,,,,0,0` + "\n" +
		expired +
		",,,,,,,,,,erased,,,,,0,0\n" +
		"A-3,,,,,bulk,,,1,,failed,,,,invalid_request: an invented message,0,0\n" +
		`A-4,,,,,,,,,,,,,,"poison: record of ""A-4"": version '9', this program reads version '2'",0,0` + "\n"
	if got := exported(t, Export{Format: input.CSV}); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := exported(t, Export{Format: input.CSV, Expired: true}); got != header+expired {
		t.Errorf("of what has expired:\n%s", got)
	}
	want = `{"application_id":"A-1","redirect_url":"https://shop.example/a,b","expiry_minutes":60,"document_optional":true,"workflow_id":"=w",` +
		`"lane":"bulk","not_after":"2026-11-24T11:00:00Z","generation":1,"metadata":{"customer":"42"},"status":"waiting","attempts":0,"possible_duplicates":0}` + "\n" +
		`{"application_id":"A-2","lane":"bulk","generation":2,"status":"created","link_id":"l-1","url":"https://simulator.invalid/l-1",` +
		`"expires_at":"2026-11-24T10:00:00Z","attempts":3,"possible_duplicates":1}` + "\n" +
		`{"status":"erased","attempts":0,"possible_duplicates":0}` + "\n" +
		`{"application_id":"A-3","lane":"bulk","generation":1,"status":"failed","reason":"invalid_request: an invented message","attempts":0,"possible_duplicates":0}` + "\n"
	if got := exported(t, Export{Format: input.NDJSON}); !strings.HasPrefix(got, want) || strings.Count(got, "\n") != 5 {
		t.Errorf("got\n%s\nwant it to begin with\n%s", got, want)
	}
}

// exportFile writes somePages to OUT, and gives what is in it then.
func exportFile(t *testing.T, out string, broken error) (string, error) {
	t.Helper()
	s, err := output.CreateFile(out, "")
	if err != nil {
		return "", err
	}
	p := somePages()
	p.broken = broken
	e := Export{Ledger: p, Format: s.Format}
	if _, err = e.Write(t.Context(), s); err != nil {
		return "", errors.Join(err, s.Discard())
	}
	if err := s.Commit(); err != nil {
		return "", err
	}
	raw, err := os.ReadFile(out)
	return string(raw), err
}

func TestExport_IsCompressedByItsSuffix(t *testing.T) {
	dir := t.TempDir()
	for suffix, unpack := range map[string]func(io.Reader) (io.Reader, error){
		"":     func(r io.Reader) (io.Reader, error) { return r, nil },
		".gz":  func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) },
		".zst": func(r io.Reader) (io.Reader, error) { return zstd.NewReader(r) },
	} {
		for _, format := range []string{".csv", ".NDJSON"} {
			got, err := exportFile(t, filepath.Join(dir, "out"+format+suffix), nil)
			if err != nil {
				t.Fatal(err)
			}
			plain, err := unpack(strings.NewReader(got))
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(plain)
			if err != nil || !strings.Contains(string(text), "https://simulator.invalid/l-1") {
				t.Errorf("%s%s holds %q, %v", format, suffix, text, err)
			}
		}
	}
	for _, name := range []string{"out", "out.gz", "out.txt"} {
		if _, err := exportFile(t, filepath.Join(dir, name), nil); err == nil || !strings.Contains(err.Error(), "suffix") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What breaks off leaves OUT as it was, and nothing beside it.
func TestExport_AppearsOnlyWhenComplete(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "out.csv")
	if err := os.WriteFile(out, []byte("as it was\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := exportFile(t, out, errors.New("an invented failure")); err == nil || !strings.Contains(err.Error(), "invented") {
		t.Errorf("the error is %v", err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("%v is left, %v", left, err)
	}
	if raw, err := os.ReadFile(out); string(raw) != "as it was\n" {
		t.Errorf("OUT is %q, %v", raw, err)
	}
	// Also where the process was killed: the next one cleans up.
	killed, err := output.CreateFile(out, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintln(killed, "half a line"); err != nil {
		t.Fatal(err)
	}
	if _, err := exportFile(t, out, nil); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("%v is left, %v", left, err)
	}
	_ = killed.Discard() // its file is gone already
}
