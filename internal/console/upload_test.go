package console

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/column"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/workbook"
	"github.com/kyclink/kyclink/tasks"
)

// uploader returns a browser that may import files, and a function that returns what was
// audited since it was last called.
func (h *harness) uploader() (b *browser, audited func() string) {
	b = h.signedIn(apikey.Read, apikey.Enqueue)
	seen := len(h.changes())
	return b, func() string {
		all := h.changes()
		recent := all[seen:]
		seen = len(all)
		return strings.Join(recent, ", ")
	}
}

// multipartForm returns the body that a browser sends: the fields, and then the file.
func multipartForm(t *testing.T, name, content string, fields url.Values) (contentType string, body []byte) {
	t.Helper()
	var text bytes.Buffer
	w := multipart.NewWriter(&text)
	for field, values := range fields {
		for _, value := range values {
			if err := w.WriteField(field, value); err != nil {
				t.Fatal(err)
			}
		}
	}
	part, err := w.CreateFormFile("file", name)
	if err == nil {
		_, err = io.WriteString(part, content)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return w.FormDataContentType(), text.Bytes()
}

// upload sends a form with a file.
func (b *browser) upload(path string, status int, name, content string, fields url.Values) page {
	b.h.Helper()
	contentType, body := multipartForm(b.h.TB.(*testing.T), name, content, fields)
	r := b.form(path)
	with, err := http.NewRequestWithContext(b.h.Context(), http.MethodPost, r.URL.String(), bytes.NewReader(body))
	b.h.Must(err)
	with.Header = r.Header
	with.Header.Set("Content-Type", contentType)
	return b.expect(b.do(with), status)
}

// formOf returns the fields of the form that sends the file again.
func formOf(t *testing.T, text string) url.Values {
	t.Helper()
	doc, err := html.Parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	attribute := func(n *html.Node, name string) (string, bool) {
		for _, a := range n.Attr {
			if a.Key == name {
				return a.Val, true
			}
		}
		return "", false
	}
	form := url.Values{}
	for n := range doc.Descendants() {
		if _, upload := attribute(n, "data-upload"); !upload {
			continue
		}
		for e := range n.Descendants() {
			name, _ := attribute(e, "name")
			kind, _ := attribute(e, "type")
			value, _ := attribute(e, "value")
			_, checked := attribute(e, "checked")
			switch {
			case e.Data == "input" && kind != "file" && (kind != "checkbox" || checked):
				form.Add(name, value)
			case e.Data == "select":
				form.Add(name, "")
				for o := range e.Descendants() {
					if _, chosen := attribute(o, "selected"); o.Data == "option" && chosen {
						value, given := attribute(o, "value")
						if !given {
							value = o.FirstChild.Data
						}
						form.Set(name, value)
					}
				}
			}
		}
	}
	return form
}

// figures returns the numbers of a list by their names.
func figures(t *testing.T, text string) string {
	t.Helper()
	doc, err := html.Parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for n := range doc.Descendants() {
		if n.Data == "li" && n.FirstChild != nil && n.FirstChild.Data == "span" && n.LastChild.Data == "b" {
			found = append(found, n.LastChild.FirstChild.Data+" "+n.FirstChild.FirstChild.Data)
		}
	}
	return strings.Join(found, "; ")
}

const people = "Application ID,Redirect URL,name\n" +
	"A-1,https://shop.example/1,Ann\nA-2,http://shop.example/2,Ben\nA-1,https://shop.example/1,Ann\nJ-1,,Joe\n\"<b>bad id\",,\n"

func TestUpload_IsCheckedAndThenImported(t *testing.T) {
	h := newHarness(t)
	_, err := h.Client.Enqueue(t.Context(), tasks.Request{ApplicationID: "J-1"})
	h.Must(err)
	b, audited := h.uploader()
	b.get("/batches/new", http.StatusOK)
	checked := b.upload("/batches/check", http.StatusOK, "spring people.csv", people, nil)
	const want = "1 new requests; 1 repeat the ID of another row; 1 joined: another batch or a signup was accepted first; 2 rejected: invalid"
	if got := figures(t, checked.text); got != want {
		t.Errorf("the check says %q, want %q", got, want)
	}
	for _, says := range []string{
		"Not imported: <b>name</b>", "repeats an ID is row 3; it has the ID of row 1", `<td class="n">2</td><td class="n">3</td><td class="id">A-2</td><td>invalid</td><td>Redirect URL</td>`,
		"&lt;b&gt;bad id", "in the new batch spring people", `<option value="Application ID" selected>`,
	} {
		if !strings.Contains(checked.text, says) {
			t.Errorf("the check does not say %q:\n%s", says, checked.text)
		}
	}
	if found := forbidden(t, checked.text); len(found) > 0 {
		t.Errorf("the page contains %q", found)
	}
	expectAudited(t, audited(), "")
	h.ExpectState("A-1", "none")
	if n := h.BatchNumber("spring people"); n != 0 {
		t.Errorf("the check created batch %d", n)
	}

	form := formOf(t, checked.text)
	imported := b.upload("/batches/import", http.StatusOK, "spring people.csv", people, form)
	if got, want := figures(t, imported.text), strings.Replace(want, "new requests", "accepted", 1); got != want {
		t.Errorf("the import says %q, want %q", got, want)
	}
	expectAudited(t, audited(), "Mara batches.import spring people")
	h.ExpectState("A-1", "waiting")
	if r, _ := h.Get("A-1"); r.Content.By != b.id || r.Content.RedirectURL != "https://shop.example/1" {
		t.Errorf("got record %+v, want one of key %s", r, b.id)
	}
	if got := h.Batch("spring people"); got.Rows != 2 || got.Joined != 1 || got.Counts[request.Waiting] != 1 {
		t.Errorf("got batch %+v", got)
	}
	again := b.upload("/batches/import", http.StatusOK, "spring people.csv", people, form)
	if got := figures(t, again.text); !strings.HasPrefix(got, "1 accepted by this batch before; ") {
		t.Errorf("the same import again says %q", got)
	}
}

func TestUpload_IsNotImportedUncheckedOrChanged(t *testing.T) {
	h := newHarness(t)
	b, audited := h.uploader()
	form := formOf(t, b.upload("/batches/check", http.StatusOK, "people.csv", people, nil).text)
	for _, tt := range []struct {
		name   string
		people string
		change func(url.Values)
		says   string
	}{
		{"another file", strings.Replace(people, "A-1", "A-9", 1), func(url.Values) {}, "another file than the one that was checked"},
		{"another batch", people, func(f url.Values) { f.Set("batch", "other") }, "settings were changed after the check"},
		{"another column", people, func(f url.Values) { f.Set("column.application_id", "name") }, "settings were changed after the check"},
		{"unchecked", people, func(f url.Values) { f.Del("checked_file") }, "was not checked"},
	} {
		changed := cloneValues(form)
		tt.change(changed)
		p := b.upload("/batches/import", http.StatusConflict, "people.csv", tt.people, changed)
		if !strings.Contains(p.text, tt.says) {
			t.Errorf("%s: the page does not say %q:\n%s", tt.name, tt.says, p.text)
		}
		expectAudited(t, audited(), "")
		// The page is the check of what was sent.
		b.upload("/batches/import", http.StatusOK, "people.csv", tt.people, formOf(t, p.text))
		if !strings.HasPrefix(audited(), "Mara batches.import ") {
			t.Errorf("%s: the import after the new check is not in the audit trail", tt.name)
		}
	}
}

func TestUpload_LetsTheOperatorChooseColumns(t *testing.T) {
	h := newHarness(t)
	b, _ := h.uploader()
	const file = "CustomerRef,redirect_ulr,Valid,<i>\nC-1,https://shop.example/,60,x\n"
	p := b.upload("/batches/check", http.StatusUnprocessableEntity, "people.csv", file, url.Values{"batch": {"spring"}})
	if !strings.Contains(p.text, "is nearly redirect_url") || strings.Contains(p.text, "--carry") || strings.Contains(p.text, "<i>") {
		t.Errorf("the page does not explain the header:\n%s", p.text)
	}
	form := formOf(t, p.text)
	if got := form.Get("column.redirect_url"); got != "redirect_ulr" {
		t.Errorf("the page proposes the column %q, want redirect_ulr", got)
	}
	form.Set("column.application_id", "CustomerRef")
	form.Set("column.expiry_minutes", "redirect_ulr")
	p = b.upload("/batches/check", http.StatusUnprocessableEntity, "people.csv", file, form)
	if !strings.Contains(p.text, "is chosen for redirect_url and for expiry_minutes") {
		t.Errorf("the page does not say that a column is chosen twice:\n%s", p.text)
	}
	form = formOf(t, p.text)
	form.Set("column.expiry_minutes", "Valid")
	p = b.upload("/batches/check", http.StatusOK, "people.csv", file, form)
	b.upload("/batches/import", http.StatusOK, "people.csv", file, formOf(t, p.text))
	if r, _ := h.Get("C-1"); r.Content.RedirectURL != "https://shop.example/" || r.Content.ExpiryMinutes != 60 {
		t.Errorf("got %+v, want the values of the chosen columns", r.Content)
	}
	if r, _ := h.Get("C-1"); r.Batch != h.BatchNumber("spring") {
		t.Errorf("it is in batch %d, want spring", r.Batch)
	}
}

func TestUpload_ReadsWorkbooksEncodingsAndJSONLines(t *testing.T) {
	h := newHarness(t)
	b, _ := h.uploader()
	var book bytes.Buffer
	w, err := workbook.NewWriter(&book, t.TempDir(), column.IsNumber)
	h.Must(err)
	for _, row := range [][]string{{"application_id", "expiry_minutes"}, {"007", "90"}, {"X-2", "many"}} {
		h.Must(w.Write(row))
	}
	h.Must(w.Close())
	for _, tt := range []struct {
		name, content string
		fields        url.Values
		id            string
	}{
		{"a.xlsx", book.String(), nil, "007"},
		{"b.csv", "application_id;stra\xdfe\nB-1;x\n", url.Values{"encoding": {"windows-1252"}}, "B-1"},
		{"c.ndjson", `{"application_id":"N-1"}` + "\n" + `{"application_id":"N-2","name":"x"}` + "\n", nil, "N-1"},
		{"d.JSONL", `{"application_id":"N-3","name":"x"}` + "\n", url.Values{"ignore_unknown": {"1"}, "expiry_minutes": {"77"}}, "N-3"},
	} {
		p := b.upload("/batches/check", http.StatusOK, tt.name, tt.content, tt.fields)
		b.upload("/batches/import", http.StatusOK, tt.name, tt.content, formOf(t, p.text))
		h.ExpectState(tt.id, "waiting")
	}
	h.ExpectState("N-2", "none")
	if options, err := h.Client.BatchOptions(t.Context(), tasks.Batch{Name: "d", Options: tasks.Options{ExpiryMinutes: 77}}); err != nil || options.ExpiryMinutes != 77 {
		t.Errorf("batch d has options %+v, %v; want the default of the form", options, err)
	}
	for _, tt := range []struct {
		name, content string
		status        int
		says          string
	}{
		{"b.csv", "application_id;stra\xdfe\nB-1;x\n", http.StatusUnprocessableEntity, "choose the encoding windows-1252"},
		{"empty.csv", "", http.StatusUnprocessableEntity, "the file is empty"},
		{"x.csv.gz", "\x1f\x8b", http.StatusUnsupportedMediaType, "Unpack x.csv.gz first"},
		{"gz.csv", "\x1f\x8b\x08", http.StatusUnprocessableEntity, "gz.csv: "},
		{"x.pdf", "%PDF", http.StatusUnsupportedMediaType, "does not end in .csv, .xlsx"},
		{"x.xlsx", "no workbook", http.StatusUnprocessableEntity, "not a readable workbook"},
		{"x<b>\u202e.csv", "id\n1\n", http.StatusUnprocessableEntity, `x&lt;b&gt;\u202e.csv: no column application_id`},
		{"../../etc/passwd.csv", "application_id\nP-1\n", http.StatusOK, "batch passwd"},
		{"", "x", http.StatusUnprocessableEntity, "Choose a file"},
	} {
		if p := b.upload("/batches/check", tt.status, tt.name, tt.content, nil); !strings.Contains(p.text, tt.says) {
			t.Errorf("%s: the page does not say %q:\n%s", tt.name, tt.says, p.text)
		}
	}
	if p := b.upload("/batches/check", http.StatusUnprocessableEntity, "p.csv", "application_id\nP-1\n", url.Values{"expiry_minutes": {"x"}}); !strings.Contains(p.text, "expiry_minutes") {
		t.Errorf("the page does not name the wrong default:\n%s", p.text)
	}
	h.Eventually("no more files are left than those of other tests", func() bool {
		left, err := filepath.Glob(filepath.Join(os.TempDir(), temporaryPrefix+"*"))
		h.Must(err)
		left = slices.DeleteFunc(left, func(dir string) bool {
			_, err := os.Stat(filepath.Join(dir, "upload.csv"))
			return err != nil
		})
		return len(left) <= 3
	})
}

func TestUpload_RefusesIncompleteAndLargeFiles(t *testing.T) {
	h := newHarness(t)
	b, audited := h.uploader()
	form := formOf(t, b.upload("/batches/check", http.StatusOK, "people.csv", people, nil).text)
	large := people + strings.Repeat("\n", maxBody)
	for _, path := range []string{"/batches/check", "/batches/import", "/batches/rejects"} {
		if p := b.upload(path, http.StatusRequestEntityTooLarge, "people.csv", large, form); !strings.Contains(p.text, "at most 1.0 MiB (KYCLINK_MAX_BODY)") {
			t.Errorf("%s: the page does not name the limit:\n%s", path, p.text)
		}
		contentType, body := multipartForm(t, "people.csv", people, form)
		for _, part := range []int{len(body) - 100, len(body) / 3, 10} {
			if p := b.truncated(path, contentType, body[:part], len(body)); !strings.HasPrefix(p, "HTTP/1.1 400 ") {
				t.Errorf("%s: after %d of %d bytes the answer is %.200s", path, part, len(body), p)
			}
		}
		b.post(path, http.StatusBadRequest, "batch", "x") // not multipart
	}
	expectAudited(t, audited(), "")
	h.ExpectState("A-1", "none")
}

// truncated sends a part of a body, ends the connection's direction to the server, and returns
// the answer.
func (b *browser) truncated(path, contentType string, body []byte, length int) string {
	b.h.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(b.h.url, "http://"))
	b.h.Must(err)
	defer conn.Close()
	at, err := url.Parse(b.h.url)
	b.h.Must(err)
	_, err = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\nSec-Fetch-Site: same-origin\r\nContent-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n",
		path, at.Host, contentType, length)
	b.h.Must(err)
	for _, cookie := range b.http.Jar.Cookies(at) {
		_, err = fmt.Fprintf(conn, "Cookie: %s=%s\r\n", cookie.Name, cookie.Value)
		b.h.Must(err)
	}
	_, err = fmt.Fprintf(conn, "\r\n%s", body)
	b.h.Must(err)
	b.h.Must(conn.(*net.TCPConn).CloseWrite())
	answer, _ := io.ReadAll(conn)
	return string(answer)
}

func TestUpload_SaysHowToContinueWhenTheBacklogIsFull(t *testing.T) {
	h := newHarness(t)
	h.maxBacklog = 1
	b, _ := h.uploader()
	h.console.backlogTimeout = 1
	form := formOf(t, b.upload("/batches/check", http.StatusOK, "p.csv", "application_id\nA-1\nA-2\n", nil).text)
	p := b.upload("/batches/import", http.StatusServiceUnavailable, "p.csv", "application_id\nA-1\nA-2\n", form)
	if !strings.Contains(p.text, "backlog of the bulk lane is full") || !strings.Contains(p.text, "import the same file into the same batch again") {
		t.Errorf("the page does not say what to do:\n%s", p.text)
	}
	h.Control("p", "cancel")
	p = b.upload("/batches/import", http.StatusUnprocessableEntity, "p.csv", "application_id\nA-1\nA-2\n", form)
	if !strings.Contains(p.text, "cancelled") {
		t.Errorf("the page does not say that the batch is cancelled:\n%s", p.text)
	}
}

func TestUpload_RejectsAreDownloadedInTheFormatOfTheFile(t *testing.T) {
	h := newHarness(t)
	b, audited := h.uploader()
	p := b.upload("/batches/rejects", http.StatusOK, "people.csv", people, nil)
	const want = "Application ID,Redirect URL,name,reason,message\nA-2,http://shop.example/2,Ben,invalid,Redirect URL: must start with https://\n<b>bad id,,,invalid,Application ID: "
	if !strings.HasPrefix(p.text, want) || strings.Count(p.text, "\n") != 3 {
		t.Errorf("got rejects\n%s\nwant\n%s…", p.text, want)
	}
	if got := p.Header.Get("Content-Disposition"); got != `attachment; filename=people-rejects.csv` {
		t.Errorf("got Content-Disposition %q", got)
	}
	b.upload("/batches/rejects", http.StatusConflict, "p.csv", "application_id\nP-1\n", nil)
	expectAudited(t, audited(), "")
}

func TestUpload_NeedsTheScopeEnqueue(t *testing.T) {
	h := newHarness(t)
	b := h.signedIn(apikey.Read, apikey.Operate)
	before := h.changes()
	if strings.Contains(b.get("/batches", http.StatusOK).text, "/batches/new") {
		t.Error("the list offers an import")
	}
	b.get("/batches/new", http.StatusForbidden)
	for _, path := range []string{"/batches/check", "/batches/import", "/batches/rejects"} {
		if p := b.upload(path, http.StatusForbidden, "p.csv", people, nil); !strings.Contains(p.text, "scope enqueue") {
			t.Errorf("%s: the page does not name the scope:\n%s", path, p.text)
		}
	}
	other := h.newBrowser(apikey.Enqueue)
	other.upload("/batches/import", http.StatusUnauthorized, "p.csv", people, nil)
	if got := h.changes(); !slices.Equal(got, before) {
		t.Errorf("audited: %v", got)
	}
}

// A transfer ends when its key is revoked, also while nothing is sent.
func TestTransfer_EndsWhenTheKeyIsRevoked(t *testing.T) {
	h := newHarness(t)
	b := h.newBrowser(apikey.Read, apikey.Enqueue)
	key, err := h.keys.Verify(t.Context(), b.key)
	h.Must(err)
	ctx, stop := h.console.transfer(t.Context(), &visit{session: session{key: key}})
	defer stop(nil)
	_, err = h.keys.Revoke(t.Context(), b.id)
	h.Must(err)
	<-ctx.Done()
	if got := context.Cause(ctx); !errors.Is(got, errRevoked) {
		t.Errorf("the transfer ended with %v, want that its key was revoked", got)
	}
}
