package api

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/account"
	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/bulk"
	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

func (s *harness) batch(id string) batch.Batch {
	s.Helper()
	return decoded[batch.Batch](s, s.expect(s.ask("GET", "/v1/batches/"+id, ""), http.StatusOK, ""))
}

func TestABatchIsSent(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.expect(s.ask("POST", "/v1/links", `{"application_id":"J-1"}`), http.StatusAccepted, "")
	const rows = "application_id,redirect_url,generation\n" +
		"B-1,https://shop.example/1,\nB-2,http://shop.example/2,\nB-1,https://shop.example/1,\nB-1,https://shop.example/other,\nJ-1,,\nB-3,,2\n\"x\n"
	const path = "/v1/batches?batch=spring%2F1&expiry_minutes=60"
	did := decoded[imported](t, s.expect(s.ask("POST", path, rows, "Content-Type", "text/csv; charset=utf-8"), http.StatusOK, ""))
	want := bulk.Counts{Rows: 7, Accepted: 1, Repeated: 1, Joined: 1, Conflicts: 1, Refused: 1, Invalid: 2}
	if did.Counts != want || did.Rejected != 4 || did.Batch != "spring/1" {
		t.Errorf("%+v", did)
	}
	var told []string
	for _, r := range did.Rejects {
		told = append(told, fmt.Sprint(r.Row, " ", r.Line, " ", r.Reason, " ", r.Errors[0].Key))
	}
	if !slices.Equal(told, []string{"2 3 invalid redirect_url", "4 5 conflict redirect_url", "6 7 generation_gap generation", "7 8 invalid "}) {
		t.Errorf("%q", told)
	}
	again := decoded[imported](t, s.expect(s.ask("POST", path, rows, "Content-Type", "text/csv"), http.StatusOK, ""))
	if again.Accepted != 0 || again.Again != 1 {
		t.Errorf("sent again: %+v", again)
	}
	other := s.expect(s.ask("POST", strings.Replace(path, "60", "61", 1), rows, "Content-Type", "text/csv"), http.StatusConflict, "conflict")
	if p := decoded[problem](t, other); !slices.Equal(p.Keys, []string{"expiry_minutes"}) {
		t.Errorf("%+v", p)
	}
	if b := s.batch("spring%2F1"); b.Rows != 2 || b.Joined != 1 || b.Counts[request.Waiting] != 1 {
		t.Errorf("%+v", b)
	}
	ndjson := `{"application_id":"N-1"}` + "\n" + `{"application_id":"N-2","lane":"fast"}` + "\n"
	did = decoded[imported](t, s.expect(s.ask("POST", "/v1/batches?batch=second", ndjson, "Content-Type", "application/x-ndjson"), http.StatusOK, ""))
	if did.Accepted != 1 || did.Invalid != 1 {
		t.Errorf("%+v", did)
	}
	list := decoded[struct{ Batches []batch.Batch }](t, s.expect(s.ask("GET", "/v1/batches", ""), http.StatusOK, ""))
	if len(list.Batches) != 2 || list.Batches[0].Batch != "spring/1" {
		t.Errorf("%+v", list)
	}
}

// Bodies come as spreadsheets save them and browsers name them.
func TestABatchAsSpreadsheetsSaveIt(t *testing.T) {
	t.Parallel()
	s := open(t)
	const mark = "\ufeff"
	for i, tt := range []struct{ kind, body string }{
		{"text/csv; charset=utf8", "application_id,redirect_url\nB-%d,https://shop.example/\n"},
		{"text/csv;charset=UTF-8", mark + "application_id\nB-%d\n"},
		{"text/csv", "Application ID;Redirect URL\r\nB-%d;https://shop.example/\r\n;\r\n"},
		{"text/csv", "sep=;\r\napplication_id;documentOptional\r\nB-%d;TRUE\r\n"},
		{"text/csv", "application_id\tredirect_url\rB-%d\thttps://shop.example/\r"},
		{excelType, mark + "application_id|lane\r\nB-%d|\r\n"},
		{"text/csv; charset=windows-1252", "application_id,redirect_url\nB-\xeb%d,https://shop.example/\n"},
		{"text/csv", "\xff\xfea\x00p\x00p\x00i\x00d\x00\n\x00B\x00%d\x00\n\x00"},
		{ndjsonType + "; charset=utf8", mark + "{\"application_id\":\"B-%d\"}\r{\"application_id\":\"B-1%[1]d\",\"status\":\"created\"}"},
	} {
		a := s.ask("POST", fmt.Sprintf("/v1/batches?batch=b%d", i), fmt.Sprintf(tt.body, i), "Content-Type", tt.kind)
		did := decoded[imported](t, s.expect(a, http.StatusOK, ""))
		if did.Rows == 0 || did.Accepted != did.Rows {
			t.Errorf("%s %q: %+v", tt.kind, tt.body, did)
		}
	}
	for _, tt := range []struct {
		kind, body string
		status     int
		says       string
	}{
		{"text/csv; charset=klingon", "application_id\nC-1\n", http.StatusUnsupportedMediaType, "klingon"},
		{"application/json", "application_id\nC-1\n", http.StatusUnsupportedMediaType, "application/json"},
		{csvType, "application_id,redirect_ulr\nC-1,\n", http.StatusBadRequest, "nearly redirect_url"},
		{csvType, "application_id,redirect_url\n", http.StatusBadRequest, "a header without rows"},
		{csvType, "application_id,stra\xdfe\nC-1,\n", http.StatusBadRequest, "charset=windows-1252"},
		{excelType, "PK\x03\x04 and so on", http.StatusBadRequest, "Excel workbook"},
	} {
		a := s.ask("POST", "/v1/batches?batch=c", tt.body, "Content-Type", tt.kind)
		if a.StatusCode != tt.status || !strings.Contains(string(a.body), tt.says) {
			t.Errorf("%s %q: %d, %s", tt.kind, tt.body, a.StatusCode, a.body)
		}
	}
	s.expect(s.ask("POST", "/v1/links", `{"application_id":"C-1"}`, "Content-Type", "application/json; charset=utf8"), http.StatusAccepted, "")
	a := s.ask("POST", "/v1/links", `{"application_id":"C-2"}`, "Content-Type", "application/json; charset=windows-1252")
	if a.StatusCode != http.StatusUnsupportedMediaType {
		t.Errorf("a request in another charset: %d", a.StatusCode)
	}
}

// Whoever follows next gets each batch once, also those that are made meanwhile.
func TestBatchesArePaged(t *testing.T) {
	t.Parallel()
	s := open(t)
	for i := range 7 {
		s.importOne(i)
	}
	page := func(query string) batchPage {
		return decoded[batchPage](t, s.expect(s.ask("GET", "/v1/batches"+query, ""), http.StatusOK, ""))
	}
	if all := page(""); len(all.Batches) != 7 || all.Next != "" {
		t.Errorf("%+v", all)
	}
	if all := page("?limit=7"); len(all.Batches) != 7 || all.Next != "" {
		t.Errorf("%+v", all)
	}
	var got []string
	for query, made := "?limit=3", 7; query != "" && made < 20; made++ {
		p := page(query)
		for _, b := range p.Batches {
			got = append(got, b.Batch)
		}
		if query = ""; p.Next != "" {
			query = "?limit=3&cursor=" + p.Next
		}
		if made < 9 {
			s.importOne(made)
		}
	}
	if want := []string{"b0", "b1", "b2", "b3", "b4", "b5", "b6", "b7", "b8"}; !slices.Equal(got, want) {
		t.Errorf("listed are %v, want %v", got, want)
	}
	for _, query := range []string{"?limit=0", "?limit=1001", "?limit=x", "?limit=1&limit=2", "?cursor=%20", "?cursor=MQ==", "?cursor=LTE", "?cursor=", "?page=2"} {
		s.expect(s.ask("GET", "/v1/batches"+query, ""), http.StatusBadRequest, "invalid")
	}
}

func (s *harness) importOne(i int) {
	s.Helper()
	s.expect(s.ask("POST", fmt.Sprintf("/v1/batches?batch=b%d", i), fmt.Sprintf("application_id\nB-%d\n", i), "Content-Type", csvType), http.StatusOK, "")
}

func TestABatchIsSteered(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.expect(s.ask("POST", "/v1/batches?batch=b", "application_id\nB-1\nB-2\nbad-1\nbad-2\n", "Content-Type", "text/csv"), http.StatusOK, "")
	for _, do := range []string{"pause", "resume", "cancel", "retry"} {
		s.expect(s.ask("POST", "/v1/batches/c/"+do, ""), http.StatusNotFound, "not_found")
	}
	steered := func(do string) batch.Batch {
		return decoded[batch.Batch](t, s.expect(s.ask("POST", "/v1/batches/b/"+do, ""), http.StatusOK, ""))
	}
	if b := steered("pause"); b.Status != batch.Paused {
		t.Errorf("%+v", b)
	}
	s.work(simulator.Script{Rules: []simulator.Rule{{Match: "bad-*", Fault: simulator.Fault{Name: "code_5002"}}}}, 1000)
	steered("resume")
	done := func() bool { return s.batch("b").Status == batch.Done }
	s.Eventually("it is done", done)
	did := func(query string) retried {
		return decoded[retried](t, s.expect(s.ask("POST", "/v1/batches/b/retry"+query, ""), http.StatusOK, ""))
	}
	if got := did("?reason=timeout"); got != (retried{0, false}) {
		t.Errorf("%+v", got)
	}
	if got := did("?reason=invalid_request"); got != (retried{2, false}) {
		t.Errorf("%+v", got)
	}
	s.Eventually("it is done again", done)
	if l := link(t, s.ask("GET", "/v1/links/bad-1", "")); l.Run != 2 || l.Status != tasks.Failed {
		t.Errorf("%+v", l)
	}
	s.expect(s.ask("POST", "/v1/batches/b/retry?reason=held", ""), http.StatusBadRequest, "invalid")
	steered("pause")
	s.expect(s.ask("POST", "/v1/batches?batch=b", "application_id\nB-1\nB-2\nbad-1\nbad-2\nC-1\nC-2\n", "Content-Type", "text/csv"), http.StatusOK, "")
	if b := steered("cancel"); b.Status != batch.Cancelled || b.Counts[request.Cancelled] != 2 || b.Counts[request.Failed] != 2 {
		t.Errorf("%+v", b)
	}
	for _, do := range []string{"pause", "resume", "retry"} {
		s.expect(s.ask("POST", "/v1/batches/b/"+do, ""), http.StatusConflict, "cancelled")
	}
	a := s.expect(s.ask("POST", "/v1/batches?batch=b", "application_id\nD-1\n", "Content-Type", "text/csv"), http.StatusConflict, "cancelled")
	if strings.Contains(string(a.body), "accepted") {
		t.Errorf("no row was accepted: %s", a.body)
	}
	if got := strings.Join(s.trail.actions(), ", "); !strings.HasPrefix(got, "batches.import b, batches.pause b, batches.resume b, batches.retry b") {
		t.Errorf("the trail: %s", got)
	}
}

func TestExportFormats(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.expect(s.ask("POST", "/v1/batches?batch=b", "application_id\nB-1\nB-2\n", "Content-Type", "text/csv"), http.StatusOK, "")
	for _, tt := range []struct{ query, accept, want string }{
		{"", "", csvType}, {"", "*/*", csvType}, {"", "text/*", csvType}, {"", "application/x-ndjson", ndjsonType},
		{"", "text/csv;q=0.5, application/x-ndjson", ndjsonType}, {"", "application/x-ndjson;q=0, */*", csvType},
		{"?format=ndjson", "text/csv", ndjsonType}, {"?format=csv&expired=true", "", csvType},
	} {
		a := s.expect(s.ask("GET", "/v1/batches/b/export"+tt.query, "", "Accept", tt.accept), http.StatusOK, "")
		lines := strings.Count(string(a.body), "\n")
		if want := map[bool]int{true: 3, false: 2}[tt.want == csvType]; !strings.HasPrefix(a.Header.Get("Content-Type"), tt.want) || lines != want && !strings.Contains(tt.query, "expired") {
			t.Errorf("%+v: %s, %d lines", tt, a.Header.Get("Content-Type"), lines)
		}
	}
	s.expect(s.ask("GET", "/v1/batches/b/export", "", "Accept", "application/json"), http.StatusNotAcceptable, "not_acceptable")
	s.expect(s.ask("POST", "/v1/batches?batch=sums", "application_id\n=B-1\n", "Content-Type", "text/csv"), http.StatusOK, "")
	for query, cell := range map[string]string{"": "\n=B-1,", "?spreadsheet=false": "\n=B-1,", "?spreadsheet=true": "\n'=B-1,", "?spreadsheet=true&format=ndjson": `"=B-1"`} {
		if a := s.expect(s.ask("GET", "/v1/batches/sums/export"+query, ""), http.StatusOK, ""); !strings.Contains(string(a.body), cell) {
			t.Errorf("%q: without %q:\n%s", query, cell, a.body)
		}
	}
	s.expect(s.ask("GET", "/v1/batches/b/export?format=xml", ""), http.StatusBadRequest, "invalid")
	s.expect(s.ask("GET", "/v1/batches/b/export?expired=1", ""), http.StatusBadRequest, "invalid")
	s.expect(s.ask("GET", "/v1/batches/b/export?spreadsheet=1", ""), http.StatusBadRequest, "invalid")
	s.expect(s.ask("GET", "/v1/batches/c/export", ""), http.StatusNotFound, "not_found")
	s.expect(s.ask("HEAD", "/v1/batches/b/export", ""), http.StatusOK, "")
}

// rows is a CSV of n rows, which are made as they are read.
func rows(n int) io.Reader {
	r, w := io.Pipe()
	go func() {
		_, err := io.WriteString(w, "application_id,redirect_url\n")
		for i := 0; err == nil && i < n; i++ {
			_, err = fmt.Fprintf(w, "B-%07d,https://shop.example/done\n", i)
		}
		_ = w.CloseWithError(err)
	}()
	return r
}

// A body of any length goes through little memory.
func TestABodyIsNotHeldInMemory(t *testing.T) {
	s := openAt(t, fixture.Redis(), func(c *Config) { c.MaxBody = 1 << 30 })
	req, err := http.NewRequestWithContext(t.Context(), "POST", s.url+"/v1/batches?batch=b", rows(50_000))
	s.Must(err)
	req.Header.Set("Authorization", "Bearer "+every)
	req.Header.Set("Content-Type", csvType)
	over := make(chan uint64)
	stop, cancel := context.WithCancel(t.Context())
	go func() {
		var most uint64
		for m := (runtime.MemStats{}); stop.Err() == nil; {
			runtime.GC()
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapAlloc)
			select {
			case <-stop.Done():
			case <-time.After(20 * time.Millisecond):
			}
		}
		over <- most
	}()
	resp, err := s.http.Transport.(validating).next.RoundTrip(req) // as it is: validating holds it in memory
	s.Must(err)
	body, err := io.ReadAll(resp.Body)
	s.Must(err)
	_ = resp.Body.Close()
	cancel()
	if did := decoded[imported](t, answer{resp, body}); did.Accepted != 50_000 {
		t.Errorf("%+v", did)
	}
	if most := <-over; most > 60<<20 {
		t.Errorf("%d MiB are in use", most>>20)
	}
}

// An upload for which there is no room is told so, and goes on when it is sent
// again.
func TestABatchForWhichThereIsNoRoom(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.most, s.api.backlogTimeout = 150, 300*time.Millisecond
	text := new(strings.Builder)
	_, err := io.Copy(text, rows(400))
	s.Must(err)
	a := s.expect(s.ask("POST", "/v1/batches?batch=b", text.String(), "Content-Type", csvType), http.StatusServiceUnavailable, "backlog_full")
	if p := decoded[problem](t, a); a.Header.Get("Retry-After") == "" || !strings.Contains(p.Detail, "send the same body again") {
		t.Errorf("%v %s", a.Header, a.body)
	}
	s.most = 0
	did := decoded[imported](t, s.expect(s.ask("POST", "/v1/batches?batch=b", text.String(), "Content-Type", csvType), http.StatusOK, ""))
	if did.Again+did.Accepted != 400 || did.Again != 150 {
		t.Errorf("%+v", did)
	}
	if b := s.batch("b"); b.Counts[request.Waiting] != 400 {
		t.Errorf("%+v", b)
	}
}

func TestTheAccountIsSteered(t *testing.T) {
	t.Parallel()
	s := open(t)
	state := func(method, path string) string {
		a := decoded[account.Status](t, s.expect(s.ask(method, path, ""), http.StatusOK, ""))
		return a.Gate.State + " " + a.Gate.Reason
	}
	if got := []string{state("POST", "/v1/account/pause"), state("GET", "/v1/account"), state("POST", "/v1/account/resume")}; !slices.Equal(got[:2], []string{"closed paused", "closed paused"}) || strings.HasSuffix(got[2], "paused") {
		t.Errorf("%q", got)
	}
}

// While Redis is away requests are answered by 503; who waits for a link waits on,
// and gets it when Redis is back.
func TestRedisGoesAway(t *testing.T) {
	t.Parallel()
	own := redistest.Start(t, "--appendonly", "yes")
	s := openAt(t, own, nil)
	s.expect(s.ask("POST", "/v1/links", `{"application_id":"A-1"}`), http.StatusAccepted, "")
	answered := make(chan answer, 1)
	go func() {
		answered <- s.ask("POST", "/v1/links", `{"application_id":"A-1"}`, "Prefer", "wait=30")
	}()
	s.Eventually("somebody waits", func() bool {
		s.api.stream.mu.Lock()
		defer s.api.stream.mu.Unlock()
		return len(s.api.stream.waiting) == 1
	})
	s.expect(s.ask("GET", "/v1/links/A-1", ""), http.StatusOK, "") // and is in place
	own.Stop()
	for _, r := range [][3]string{{"GET", "/v1/links/A-1", ""}, {"POST", "/v1/links", `{"application_id":"A-2"}`}, {"GET", "/v1/batches", ""}, {"POST", "/v1/account/pause", ""}} {
		a := s.expect(s.ask(r[0], r[1], r[2]), http.StatusServiceUnavailable, "unavailable")
		if a.Header.Get("Retry-After") == "" {
			t.Errorf("%v: it does not say when to come again", r)
		}
	}
	s.Eventually("health says it", func() bool { return s.ask("GET", "/healthz", "").StatusCode == http.StatusServiceUnavailable })
	own.Restart(t)
	s.work(simulator.Script{}, 1000)
	if a := s.expect(<-answered, http.StatusCreated, ""); link(t, a).Status != tasks.Created {
		t.Errorf("%s", a.body)
	}
}
