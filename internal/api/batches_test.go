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
	"github.com/kyclink/kyclink/internal/action"
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
	return decode[batch.Batch](s, s.expect(s.send("GET", "/v1/batches/"+id, ""), http.StatusOK, ""))
}

func TestBatches_UploadReportsEachRejectedRow(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	s.expect(s.send("POST", "/v1/links", `{"application_id":"J-1"}`), http.StatusAccepted, "")
	const rows = "application_id,redirect_url,generation\n" +
		"B-1,https://shop.example/1,\nB-2,http://shop.example/2,\nB-1,https://shop.example/1,\nB-1,https://shop.example/other,\nJ-1,,\nB-3,,2\n\"x\n"
	const path = "/v1/batches?batch=spring%2F1&expiry_minutes=60"
	result := decode[imported](t, s.expect(s.send("POST", path, rows, "Content-Type", "text/csv; charset=utf-8"), http.StatusOK, ""))
	want := bulk.Counts{Rows: 7, Accepted: 1, Repeated: 1, Joined: 1, Conflicts: 1, Refused: 1, Invalid: 2}
	if result.Counts != want || result.Rejected != 4 || result.Batch != "spring/1" {
		t.Errorf("upload: got %+v, want %+v and 4 rejected", result, want)
	}
	var rejects []string
	for _, r := range result.Rejects {
		rejects = append(rejects, fmt.Sprint(r.Row, " ", r.Line, " ", r.Reason, " ", r.Errors[0].Key))
	}
	if !slices.Equal(rejects, []string{"2 3 invalid redirect_url", "4 5 conflict redirect_url", "6 7 generation_gap generation", "7 8 invalid "}) {
		t.Errorf("got rejects %q", rejects)
	}
	again := decode[imported](t, s.expect(s.send("POST", path, rows, "Content-Type", "text/csv"), http.StatusOK, ""))
	if again.Accepted != 0 || again.Again != 1 {
		t.Errorf("the same upload again: got %+v, want none accepted and one from before", again)
	}
	other := s.expect(s.send("POST", strings.Replace(path, "60", "61", 1), rows, "Content-Type", "text/csv"), http.StatusConflict, "conflict")
	if p := decode[problem](t, other); !slices.Equal(p.Keys, []string{"expiry_minutes"}) {
		t.Errorf("an upload with other options: got problem %+v, want the key expiry_minutes", p)
	}
	if b := s.batch("spring%2F1"); b.Rows != 2 || b.Joined != 1 || b.Counts[request.Waiting] != 1 {
		t.Errorf("got batch %+v, want 2 rows, 1 of them joined", b)
	}
	ndjson := `{"application_id":"N-1"}` + "\n" + `{"application_id":"N-2","lane":"fast"}` + "\n"
	result = decode[imported](t, s.expect(s.send("POST", "/v1/batches?batch=second", ndjson, "Content-Type", "application/x-ndjson"), http.StatusOK, ""))
	if result.Accepted != 1 || result.Invalid != 1 {
		t.Errorf("NDJSON upload: got %+v, want 1 row accepted and 1 invalid", result)
	}
	list := decode[struct{ Batches []batch.Batch }](t, s.expect(s.send("GET", "/v1/batches", ""), http.StatusOK, ""))
	if len(list.Batches) != 2 || list.Batches[0].Batch != "spring/1" {
		t.Errorf("got list %+v, want both batches in the order of their creation", list)
	}
}

// The bodies and media types are those of spreadsheets and browsers.
func TestBatches_UploadReadsWhatSpreadsheetsSave(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
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
		a := s.send("POST", fmt.Sprintf("/v1/batches?batch=b%d", i), fmt.Sprintf(tt.body, i), "Content-Type", tt.kind)
		result := decode[imported](t, s.expect(a, http.StatusOK, ""))
		if result.Rows == 0 || result.Accepted != result.Rows {
			t.Errorf("%s %q: got %+v, want every row accepted", tt.kind, tt.body, result)
		}
	}
	for _, tt := range []struct {
		kind, body string
		status     int
		want       string
	}{
		{"text/csv; charset=klingon", "application_id\nC-1\n", http.StatusUnsupportedMediaType, "klingon"},
		{"application/json", "application_id\nC-1\n", http.StatusUnsupportedMediaType, "application/json"},
		{csvType, "application_id,redirect_ulr\nC-1,\n", http.StatusBadRequest, "nearly redirect_url"},
		{csvType, "application_id,redirect_url\n", http.StatusBadRequest, "a header without rows"},
		{csvType, "application_id,stra\xdfe\nC-1,\n", http.StatusBadRequest, "charset=windows-1252"},
		{excelType, "PK\x03\x04 and so on", http.StatusBadRequest, "Excel workbook"},
	} {
		a := s.send("POST", "/v1/batches?batch=c", tt.body, "Content-Type", tt.kind)
		if a.StatusCode != tt.status || !strings.Contains(string(a.body), tt.want) {
			t.Errorf("%s %q: got %d %s, want %d and %q", tt.kind, tt.body, a.StatusCode, a.body, tt.status, tt.want)
		}
	}
	s.expect(s.send("POST", "/v1/links", `{"application_id":"C-1"}`, "Content-Type", "application/json; charset=utf8"), http.StatusAccepted, "")
	a := s.send("POST", "/v1/links", `{"application_id":"C-2"}`, "Content-Type", "application/json; charset=windows-1252")
	if a.StatusCode != http.StatusUnsupportedMediaType {
		t.Errorf("a request in windows-1252: got %d, want 415", a.StatusCode)
	}
}

// Batches that are created between two pages are on a later page.
func TestBatches_ArePagedWithoutRepeatsOrGaps(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	for i := range 7 {
		s.importOne(i)
	}
	page := func(query string) batchPage {
		return decode[batchPage](t, s.expect(s.send("GET", "/v1/batches"+query, ""), http.StatusOK, ""))
	}
	if all := page(""); len(all.Batches) != 7 || all.Next != "" {
		t.Errorf("without a limit: got page %+v, want 7 batches and no next page", all)
	}
	if all := page("?limit=7"); len(all.Batches) != 7 || all.Next != "" {
		t.Errorf("with limit 7: got page %+v, want 7 batches and no next page", all)
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
		t.Errorf("the pages list %v, want %v", got, want)
	}
	for _, query := range []string{"?limit=0", "?limit=1001", "?limit=x", "?limit=1&limit=2", "?cursor=%20", "?cursor=MQ==", "?cursor=LTE", "?cursor=", "?page=2"} {
		s.expect(s.send("GET", "/v1/batches"+query, ""), http.StatusBadRequest, "invalid")
	}
}

func (s *harness) importOne(i int) {
	s.Helper()
	s.expect(s.send("POST", fmt.Sprintf("/v1/batches?batch=b%d", i), fmt.Sprintf("application_id\nB-%d\n", i), "Content-Type", csvType), http.StatusOK, "")
}

func TestBatches_ArePausedResumedRetriedAndCancelled(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	s.expect(s.send("POST", "/v1/batches?batch=b", "application_id\nB-1\nB-2\nbad-1\nbad-2\n", "Content-Type", "text/csv"), http.StatusOK, "")
	for _, do := range []string{"pause", "resume", "cancel", "retry"} {
		s.expect(s.send("POST", "/v1/batches/c/"+do, ""), http.StatusNotFound, "not_found")
	}
	control := func(do string) batch.Batch {
		return decode[batch.Batch](t, s.expect(s.send("POST", "/v1/batches/b/"+do, ""), http.StatusOK, ""))
	}
	if b := control("pause"); b.Status != batch.Paused {
		t.Errorf("pause: got %+v", b)
	}
	s.startWorker(simulator.Script{Rules: []simulator.Rule{{Match: "bad-*", Fault: simulator.Fault{Name: "code_5002"}}}}, 1000)
	control("resume")
	done := func() bool { return s.batch("b").Status == batch.Done }
	s.Eventually("the batch is done", done)
	retry := func(query string) retried {
		return decode[retried](t, s.expect(s.send("POST", "/v1/batches/b/retry"+query, ""), http.StatusOK, ""))
	}
	if got := retry("?reason=timeout"); got != (retried{}) {
		t.Errorf("retry of a reason without requests: got %+v, want none", got)
	}
	got := retry("?reason=invalid_request")
	if got.Retried != 2 || got.More {
		t.Errorf("retry of failed requests: got %+v, want 2", got)
	}
	if did := decode[action.Action](t, s.expect(s.send("GET", "/v1/actions/"+got.Action, ""), http.StatusOK, "")); did.State != action.Done || did.Counts.Done != 2 || did.Filter.Batch != "b" {
		t.Errorf("its action is %+v", did)
	}
	s.Eventually("the batch is done again", done)
	if l := link(t, s.send("GET", "/v1/links/bad-1", "")); l.Run != 2 || l.Status != tasks.Failed {
		t.Errorf("after the retry: got %+v, want failed in run 2", l)
	}
	s.expect(s.send("POST", "/v1/batches/b/retry?reason=held", ""), http.StatusBadRequest, "invalid")
	control("pause")
	s.expect(s.send("POST", "/v1/batches?batch=b", "application_id\nB-1\nB-2\nbad-1\nbad-2\nC-1\nC-2\n", "Content-Type", "text/csv"), http.StatusOK, "")
	if b := control("cancel"); b.Status != batch.Cancelled || b.Counts[request.Cancelled] != 2 || b.Counts[request.Failed] != 2 {
		t.Errorf("cancel: got %+v, want 2 requests cancelled and 2 failed", b)
	}
	for _, do := range []string{"pause", "resume", "retry"} {
		s.expect(s.send("POST", "/v1/batches/b/"+do, ""), http.StatusConflict, "cancelled")
	}
	a := s.expect(s.send("POST", "/v1/batches?batch=b", "application_id\nD-1\n", "Content-Type", "text/csv"), http.StatusConflict, "cancelled")
	if strings.Contains(string(a.body), "accepted") {
		t.Errorf("an upload to the cancelled batch: got %s, want no mention of accepted rows", a.body)
	}
	if got := strings.Join(s.trail.actions(), ", "); !strings.HasPrefix(got, "batches.import b, batches.pause b, batches.resume b, batches.retry b") {
		t.Errorf("got audit trail %s", got)
	}
}

func TestExport_FollowsAcceptAndQuery(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	s.expect(s.send("POST", "/v1/batches?batch=b", "application_id\nB-1\nB-2\n", "Content-Type", "text/csv"), http.StatusOK, "")
	for _, tt := range []struct{ query, accept, want string }{
		{"", "", csvType}, {"", "*/*", csvType}, {"", "text/*", csvType}, {"", "application/x-ndjson", ndjsonType},
		{"", "text/csv;q=0.5, application/x-ndjson", ndjsonType}, {"", "application/x-ndjson;q=0, */*", csvType},
		{"?format=ndjson", "text/csv", ndjsonType}, {"?format=csv&expired=true", "", csvType},
	} {
		a := s.expect(s.send("GET", "/v1/batches/b/export"+tt.query, "", "Accept", tt.accept), http.StatusOK, "")
		lines := strings.Count(string(a.body), "\n")
		if want := map[bool]int{true: 3, false: 2}[tt.want == csvType]; !strings.HasPrefix(a.Header.Get("Content-Type"), tt.want) || lines != want && !strings.Contains(tt.query, "expired") {
			t.Errorf("%+v: got %s with %d lines", tt, a.Header.Get("Content-Type"), lines)
		}
	}
	s.expect(s.send("GET", "/v1/batches/b/export", "", "Accept", "application/json"), http.StatusNotAcceptable, "not_acceptable")
	s.expect(s.send("POST", "/v1/batches?batch=sums", "application_id\n=B-1\n", "Content-Type", "text/csv"), http.StatusOK, "")
	for query, cell := range map[string]string{"": "\n=B-1,", "?spreadsheet=false": "\n=B-1,", "?spreadsheet=true": "\n'=B-1,", "?spreadsheet=true&format=ndjson": `"=B-1"`} {
		if a := s.expect(s.send("GET", "/v1/batches/sums/export"+query, ""), http.StatusOK, ""); !strings.Contains(string(a.body), cell) {
			t.Errorf("%q: the export lacks %q:\n%s", query, cell, a.body)
		}
	}
	s.expect(s.send("GET", "/v1/batches/b/export?format=xml", ""), http.StatusBadRequest, "invalid")
	s.expect(s.send("GET", "/v1/batches/b/export?expired=1", ""), http.StatusBadRequest, "invalid")
	s.expect(s.send("GET", "/v1/batches/b/export?spreadsheet=1", ""), http.StatusBadRequest, "invalid")
	s.expect(s.send("GET", "/v1/batches/c/export", ""), http.StatusNotFound, "not_found")
	s.expect(s.send("HEAD", "/v1/batches/b/export", ""), http.StatusOK, "")
}

// rows returns a CSV of n rows, which are written as they are read.
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

func TestBatches_UploadUsesLittleMemory(t *testing.T) {
	s := newHarnessOn(t, fixture.Redis(), func(c *Config) { c.MaxBody = 1 << 30 })
	req, err := http.NewRequestWithContext(t.Context(), "POST", s.url+"/v1/batches?batch=b", rows(50_000))
	s.Must(err)
	req.Header.Set("Authorization", "Bearer "+allScopes)
	req.Header.Set("Content-Type", csvType)
	measured := make(chan uint64)
	stop, cancel := context.WithCancel(t.Context())
	go func() {
		var highest uint64
		for m := (runtime.MemStats{}); stop.Err() == nil; {
			runtime.GC()
			runtime.ReadMemStats(&m)
			highest = max(highest, m.HeapAlloc)
			select {
			case <-stop.Done():
			case <-time.After(20 * time.Millisecond):
			}
		}
		measured <- highest
	}()
	resp, err := s.http.Transport.(validating).next.RoundTrip(req) // validating would read the body into memory
	s.Must(err)
	body, err := io.ReadAll(resp.Body)
	s.Must(err)
	_ = resp.Body.Close()
	cancel()
	if result := decode[imported](t, answer{resp, body}); result.Accepted != 50_000 {
		t.Errorf("got %+v, want 50000 rows accepted", result)
	}
	if highest := <-measured; highest > 60<<20 {
		t.Errorf("the heap grew to %d MiB, want at most 60", highest>>20)
	}
}

// The upload continues when the same body is sent again.
func TestBatches_UploadIsRefusedWhileTheBacklogIsFull(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	s.maxBacklog, s.api.backlogTimeout = 150, 300*time.Millisecond
	text := new(strings.Builder)
	_, err := io.Copy(text, rows(400))
	s.Must(err)
	a := s.expect(s.send("POST", "/v1/batches?batch=b", text.String(), "Content-Type", csvType), http.StatusServiceUnavailable, "backlog_full")
	if p := decode[problem](t, a); a.Header.Get("Retry-After") == "" || !strings.Contains(p.Detail, "send the same body again") {
		t.Errorf("got %v %s, want Retry-After and advice to send the body again", a.Header, a.body)
	}
	s.maxBacklog = 0
	result := decode[imported](t, s.expect(s.send("POST", "/v1/batches?batch=b", text.String(), "Content-Type", csvType), http.StatusOK, ""))
	if result.Again+result.Accepted != 400 || result.Again != 150 {
		t.Errorf("the second upload: got %+v, want 150 rows from before and 250 accepted", result)
	}
	if b := s.batch("b"); b.Counts[request.Waiting] != 400 {
		t.Errorf("got batch %+v, want 400 waiting", b)
	}
}

func TestAccount_IsPausedAndResumed(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	state := func(method, path string) string {
		a := decode[account.Status](t, s.expect(s.send(method, path, ""), http.StatusOK, ""))
		return a.Gate.State + " " + a.Gate.Reason
	}
	if got := []string{state("POST", "/v1/account/pause"), state("GET", "/v1/account"), state("POST", "/v1/account/resume")}; !slices.Equal(got[:2], []string{"closed paused", "closed paused"}) || strings.HasSuffix(got[2], "paused") {
		t.Errorf("states after pause, read and resume: got %q", got)
	}
}

// A client that waits for a link keeps waiting, and gets it when Redis is back.
func TestAPI_AnswersUnavailableWhileRedisIsDown(t *testing.T) {
	t.Parallel()
	own := redistest.Start(t, "--appendonly", "yes")
	s := newHarnessOn(t, own, nil)
	s.expect(s.send("POST", "/v1/links", `{"application_id":"A-1"}`), http.StatusAccepted, "")
	own.Stop()
	for _, r := range [][3]string{{"GET", "/v1/links/A-1", ""}, {"POST", "/v1/links", `{"application_id":"A-2"}`}, {"GET", "/v1/batches", ""}, {"POST", "/v1/account/pause", ""}} {
		a := s.expect(s.send(r[0], r[1], r[2]), http.StatusServiceUnavailable, "unavailable")
		if a.Header.Get("Retry-After") == "" {
			t.Errorf("%v: Retry-After is missing", r)
		}
	}
	s.Eventually("/healthz answers 503", func() bool { return s.send("GET", "/healthz", "").StatusCode == http.StatusServiceUnavailable })
	own.Restart(t)
	// What follows must not take as long as a client may wait.
	answered := make(chan answer, 1)
	go func() {
		answered <- s.send("POST", "/v1/links", `{"application_id":"A-1"}`, "Prefer", "wait=30")
	}()
	s.Eventually("a client waits for the link", func() bool {
		s.api.stream.mu.Lock()
		defer s.api.stream.mu.Unlock()
		return len(s.api.stream.waiting) == 1
	})
	own.Restart(t)
	s.startWorker(simulator.Script{}, 1000)
	if a := s.expect(<-answered, http.StatusCreated, ""); link(t, a).Status != tasks.Created {
		t.Errorf("the waiting client got %s, want a created link", a.body)
	}
}
