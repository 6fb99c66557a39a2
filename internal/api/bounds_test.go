package api

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/tasks"
)

func TestProblems_AreSmallHoweverLargeTheRequestIs(t *testing.T) {
	t.Parallel()
	s := newHarnessOn(t, fixture.Redis(), func(c *Config) { c.MaxBody = 32 << 20 })
	var row strings.Builder
	row.WriteString(`{"application_id":"` + strings.Repeat("<", 1000) + `"`)
	for i := range 300 {
		fmt.Fprintf(&row, `,"%d%s":1`, i, strings.Repeat("<", 300))
	}
	row.WriteString("}\n")
	const rows = 30 // several times as many as fit into an answer
	a := s.expect(s.send("POST", "/v1/batches?batch=b", strings.Repeat(row.String(), rows), "Content-Type", ndjsonType), http.StatusOK, "")
	result := decode[imported](t, a)
	if result.Rejected != rows || len(result.Rejects) == 0 || len(a.body) > maxRejectsBytes+1000 {
		t.Errorf("got %d of %d rejects in %d bytes, want at most %d bytes", len(result.Rejects), result.Rejected, len(a.body), maxRejectsBytes+1000)
	}
	for _, r := range result.Rejects {
		if last := r.Errors[len(r.Errors)-1].Message; len(r.Errors) != tasks.MaxProblems+1 || last != "and 281 more" {
			t.Fatalf("row %d has %d errors, the last one %q; want %d and a count of the others", r.Row, len(r.Errors), last, tasks.MaxProblems)
		}
	}
	var many string
	for i := range 1000 {
		many += fmt.Sprintf("&x%d=1", i)
	}
	for _, a := range []answer{
		s.send("POST", "/v1/links?"+many[1:], `{"application_id":"A-1"}`),
		s.send("POST", "/v1/links", row.String()[:60<<10]+`":1}`),
		s.send("POST", "/v1/batches?batch=c", strings.Repeat("application_id,", 60_000)+"\n", "Content-Type", csvType),
		s.send("POST", "/v1/batches?batch=c", "application_id,"+strings.Repeat("x,", 400_000)+"\n", "Content-Type", csvType),
	} {
		if a.StatusCode != http.StatusBadRequest && a.StatusCode != http.StatusUnprocessableEntity || len(a.body) > 32<<10 {
			t.Errorf("%s %.100s: got %d with %d bytes, want 400 or 422 with at most 32 KiB", a.Request.Method, a.Request.URL, a.StatusCode, len(a.body))
		}
	}
	for _, a := range []answer{
		s.send("GET", "/v1/batches/"+strings.Repeat("b", 9000), ""),
		s.send("GET", "/v1/links/"+strings.Repeat("b", 9000), ""),
		s.send("POST", "/v1/batches?batch=c", "x", "Content-Type", "text/"+strings.Repeat("b", 9000)),
	} {
		if a.StatusCode < 400 || len(a.body) > 1000 {
			t.Errorf("%s %.100s: got %d with %d bytes, want an error with at most 1000 bytes", a.Request.Method, a.Request.URL, a.StatusCode, len(a.body))
		}
	}
	s.expectNothingAccepted()
}
