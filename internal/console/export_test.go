package console

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/xuri/excelize/v2"

	"github.com/kyclink/kyclink/internal/api"
	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/fixture/ledgertest"
	"github.com/kyclink/kyclink/tasks"
)

// exported returns a batch with a created, a failed and a waiting request, and what the API
// exports of it.
func (h *harness) exported(batch string) func(query string) string {
	h.Helper()
	h.Import(batch, append(ledgertest.Rows(1, 3), tasks.Request{ApplicationID: "=cmd", WorkflowID: "wf"}))
	refs := h.Feed()
	h.Do(refs[0].ApplicationID, "admit", "created")
	h.Do(refs[1].ApplicationID, "admit", "fail")
	a := api.New(api.Config{
		Redis: h.Redis, Stores: h.Stores, Client: h.Client, Importer: h.importer, Keys: h.keys, Audit: h.trail, MaxBody: maxBody, Log: h.console.Log,
	})
	server := httptest.NewServer(a)
	h.Cleanup(server.Close)
	key, _, err := h.keys.Create(h.Context(), "api", []apikey.Scope{apikey.Read})
	h.Must(err)
	client := h.newBrowser(apikey.Read)
	return func(query string) string {
		h.Helper()
		r, err := http.NewRequestWithContext(h.Context(), http.MethodGet, server.URL+"/v1/batches/"+batch+"/export?"+query, nil)
		h.Must(err)
		r.Header.Set("Authorization", "Bearer "+key)
		return client.expect(client.do(r), http.StatusOK).text
	}
}

func TestExport_IsThatOfTheAPIAndAudited(t *testing.T) {
	h := newHarness(t)
	want := h.exported("spring")
	b := h.signedIn(apikey.Read)
	seen := len(h.changes())
	for _, tt := range []struct{ format, spreadsheet, media string }{
		{"csv", "", "text/csv; charset=utf-8; header=present"},
		{"csv", "1", "text/csv; charset=utf-8; header=present"},
		{"ndjson", "", "application/x-ndjson"},
	} {
		p := b.post("/batch/export", http.StatusOK, "name", "spring", "format", tt.format, "spreadsheet", tt.spreadsheet)
		if want := want("format=" + tt.format + strings.TrimSuffix("&spreadsheet="+map[string]string{"1": "true"}[tt.spreadsheet], "&spreadsheet=")); p.text != want {
			t.Errorf("%s: got\n%s\nwant\n%s", tt.format, p.text, want)
		}
		if !strings.Contains(p.text, ledgertest.Link().URL) {
			t.Errorf("%s: the link is missing", tt.format)
		}
		for name, want := range map[string]string{
			"Content-Type": tt.media, "Cache-Control": "no-store", "Content-Disposition": "attachment; filename=spring-links." + tt.format,
		} {
			if got := p.Header.Get(name); got != want {
				t.Errorf("%s: got %s %q, want %q", tt.format, name, got, want)
			}
		}
	}
	if got := fmt.Sprint(h.changes()[seen:]); got != "[Mara batches.export spring Mara batches.export spring Mara batches.export spring]" {
		t.Errorf("audited: %s", got)
	}

	p := b.post("/batch/export", http.StatusOK, "name", "spring", "format", "xlsx")
	book, err := excelize.OpenReader(bytes.NewReader([]byte(p.text)))
	h.Must(err)
	defer book.Close()
	rows, err := book.GetRows(book.GetSheetName(0))
	h.Must(err)
	var text []string
	for _, row := range rows {
		text = append(text, row[0])
	}
	if got := strings.Join(text, " "); got != "application_id R-1 R-2 R-3 =cmd" || !strings.Contains(fmt.Sprint(rows), ledgertest.Link().URL) {
		t.Errorf("the workbook has the IDs %q, and rows %q", got, rows)
	}
}

func TestExport_RefusesOtherThings(t *testing.T) {
	h := newHarness(t)
	h.exported("spring")
	b := h.signedIn(apikey.Read)
	seen := len(h.changes())
	b.post("/batch/export", http.StatusNotFound, "name", "summer", "format", "csv")
	b.post("/batch/export", http.StatusUnprocessableEntity, "name", "spring", "format", "pdf")
	b.post("/batch/export", http.StatusBadRequest, "name", strings.Repeat("x", maxForm))
	b.get("/batch/export?name=spring&format=csv", http.StatusNotFound) // reading an address never exports
	h.newBrowser(apikey.Read).post("/batch/export", http.StatusUnauthorized, "name", "spring", "format", "csv")
	if got := h.changes(); len(got) != seen {
		t.Errorf("audited: %v", got[seen:])
	}
}

func TestBatch_ShowsItsFailuresByReason(t *testing.T) {
	h := newHarness(t)
	h.exported("spring")
	h.Import("other", ledgertest.Rows(9, 9))
	h.Feed()
	h.Do("R-9", "admit", "fail")
	b := h.signedIn(apikey.Read)
	p := b.get("/batch?name=spring", http.StatusOK)
	r, _ := h.Get("R-2")
	want := `<li><a href="/failed?batch=spring&amp;reason=` + r.Outcome.Reason + `">` + strings.ReplaceAll(r.Outcome.Reason, "_", " ") + "</a> <b>1</b></li>"
	if !strings.Contains(p.text, want) {
		t.Errorf("the page does not have %q:\n%s", want, p.text)
	}
	h.Import("summer", ledgertest.Rows(7, 7))
	if p := b.get("/batch?name=summer", http.StatusOK); strings.Contains(p.text, "Failures by reason") {
		t.Error("a batch without failures shows them")
	}
}

func TestBatches_AreFoundByAPartOfTheirName(t *testing.T) {
	h := newHarness(t)
	for i, name := range []string{"Spring <b>1", "spring 2", "summer"} {
		h.Import(name, ledgertest.Rows(i+1, i+1))
	}
	b := h.signedIn(apikey.Read)
	if to := b.get("/batches?find=+summer", http.StatusSeeOther).Header.Get("Location"); to != "/batch?name=summer" {
		t.Errorf("a name leads to %s", to)
	}
	p := b.get("/batches?find=sPRing", http.StatusOK)
	if got := strings.Join(findAll(p.text, `class="id" href="/batch?name=`), " "); got != "Spring%20%3cb%3e1 spring%202" {
		t.Errorf("found %s", got)
	}
	if p := b.get("/batches?find=autumn", http.StatusOK); !strings.Contains(p.text, "No batch has this text in its name.") {
		t.Errorf("the page does not say that there is none:\n%s", p.text)
	}
}
