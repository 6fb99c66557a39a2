package api

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"testing"

	"github.com/kyclink/kyclink/tasks"
)

func TestListLinks_FollowsNextToTheEnd(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	var want []string
	for i := range 25 {
		id := fmt.Sprintf("A-%02d", i)
		want = append(want, id)
		s.expect(s.send("POST", "/v1/links", fmt.Sprintf(`{"application_id":%q}`, id)), http.StatusAccepted, "")
	}
	s.expect(s.send("POST", "/v1/batches?batch=spring", "application_id\nB-1\nB-2\n", "Content-Type", "text/csv"), http.StatusOK, "")
	for _, c := range []struct {
		query string
		want  []string
	}{
		{"id_prefix=A-", want},
		{"status=queued&lane=interactive", want},
		{"batch=spring", []string{"B-1", "B-2"}},
		{"status=failed", nil},
		{"status=waiting&since=2099-01-01T00:00:00Z", nil},
	} {
		var got []string
		for cursor := ""; ; {
			page := decode[linkPage](t, s.expect(s.send("GET", "/v1/links?limit=10&"+c.query+cursor, ""), http.StatusOK, ""))
			for _, l := range page.Links {
				got = append(got, l.ApplicationID)
				if l.Batch != "" && (l.Batch != "spring" || l.Status != tasks.Waiting) {
					t.Errorf("%s: got %+v", c.query, l)
				}
			}
			if cursor = "&cursor=" + url.QueryEscape(page.Next); page.Next == "" {
				break
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", c.query, got, c.want)
		}
	}
}

func TestListLinks_NamesTheParameterThatIsWrong(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	for query, want := range map[string]int{
		"status=lost": http.StatusBadRequest, "lane=fast": http.StatusBadRequest, "since=yesterday": http.StatusBadRequest,
		"limit=0": http.StatusBadRequest, "limit=501": http.StatusBadRequest, "cursor=x": http.StatusBadRequest,
		"colour=red": http.StatusBadRequest, "status=": http.StatusBadRequest, "batch=none": http.StatusNotFound,
	} {
		reason := map[int]string{http.StatusBadRequest: "invalid", http.StatusNotFound: "not_found"}[want]
		s.expect(s.send("GET", "/v1/links?"+query, ""), want, reason)
	}
}
