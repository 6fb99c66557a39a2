package api

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/tasks"
)

// Without the scope read, a key gets neither the link of another key's request nor its
// next generation, and a right guess of the content is answered like a wrong one.
func TestCaller_WithoutReadSeesOnlyItsOwnRequests(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	s.startWorker(simulator.Script{}, 100)
	const first = `{"application_id":"A-1","redirect_url":"https://shop.example/1","metadata":{"customer":"42"}}`
	s.settled(first, "Authorization", "Bearer operate,enqueue")
	mine := decode[tasks.Link](t, s.expect(s.send("POST", "/v1/links", first, "Authorization", "Bearer operate,enqueue"), http.StatusOK, ""))
	if mine.URL == "" || string(mine.Metadata) != `{"customer":"42"}` {
		t.Errorf("the key's own link: got %+v, want its URL and metadata", mine)
	}
	wrong := strings.Replace(strings.Replace(first, "/1", "/2", 1), "42", "43", 1)
	var answers []string
	for _, body := range []string{first, wrong} {
		a := s.expect(s.send("POST", "/v1/links", body, "Authorization", "Bearer enqueue", "X-Request-Id", "x"), http.StatusConflict, "conflict")
		answers = append(answers, string(a.body))
		if p := decode[problem](t, a); !slices.Equal(p.Keys, []string{"application_id", "redirect_url", "metadata"}) {
			t.Errorf("the conflict names the keys %v", p.Keys)
		}
	}
	if answers[0] != answers[1] {
		t.Errorf("a right guess is answered\n%s\nand a wrong one\n%s", answers[0], answers[1])
	}
	for _, body := range []string{`{"application_id":"A-1"}`, `{"application_id":"A-1","generation":2,"redirect_url":"https://evil.example/"}`} {
		s.expect(s.send("POST", "/v1/links", body, "Prefer", "wait=1", "Authorization", "Bearer enqueue"), http.StatusConflict, "conflict")
	}

	// The same holds for uploads.
	for _, row := range []string{first, wrong} {
		result := decode[imported](t, s.expect(s.send("POST", "/v1/batches?batch=guess", row, "Content-Type", ndjsonType, "Authorization", "Bearer enqueue"), http.StatusOK, ""))
		if result.Conflicts != 1 || result.Joined != 0 || len(result.Rejects[0].Errors) != 1 || result.Rejects[0].Errors[0].Key != "application_id" {
			t.Errorf("an upload: got %+v, want one conflict that names only application_id", result)
		}
	}
	s.expect(s.send("POST", "/v1/batches?batch=own&redirect_url=https://shop.example/1", "application_id\nB-1\n", "Content-Type", csvType), http.StatusOK, "")
	for _, guess := range []string{"", "&redirect_url=https://shop.example/1", "&redirect_url=https://shop.example/2"} {
		s.expect(s.send("POST", "/v1/batches?batch=own"+guess, "application_id\nB-2\n", "Content-Type", csvType, "Authorization", "Bearer enqueue"), http.StatusConflict, "conflict")
	}
	if got := s.batch("own").Rows; got != 1 {
		t.Errorf("the batch has %d rows, want 1", got)
	}

	// A key with the scope read may request the next generation.
	s.settled(`{"application_id":"A-1","generation":2}`)
}

func TestCancel_ReturnsNoMetadataToAKeyWithoutRead(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	s.expect(s.send("POST", "/v1/links", `{"application_id":"A-1","metadata":{"customer":"42"}}`), http.StatusAccepted, "")
	link := decode[tasks.Link](t, s.expect(s.send("DELETE", "/v1/links/A-1", "", "Authorization", "Bearer operate"), http.StatusOK, ""))
	if link.Status != tasks.Cancelled || link.Metadata != nil {
		t.Errorf("got %+v, want a cancelled link without metadata", link)
	}
}

// hosted accepts the same keys as keys, and limits their redirect hosts.
type hosted struct{ hosts []string }

func (h hosted) Verify(ctx context.Context, presented string) (apikey.Key, error) {
	k, err := keys{}.Verify(ctx, presented)
	k.RedirectHosts = h.hosts
	return k, err
}

func TestRedirectHosts_OfAKeyLimitRequestsAndUploads(t *testing.T) {
	t.Parallel()
	s := newHarnessOn(t, fixture.Redis(), func(c *Config) { c.Keys = hosted{[]string{"partner.example"}} })
	s.expect(s.send("POST", "/v1/links", `{"application_id":"A-1","redirect_url":"https://partner.example/x"}`), http.StatusAccepted, "")
	s.expect(s.send("POST", "/v1/links", `{"application_id":"A-2"}`), http.StatusAccepted, "")
	s.expect(s.send("POST", "/v1/links", `{"application_id":"A-3","redirect_url":"https://shop.example/x"}`), http.StatusUnprocessableEntity, "invalid")
	s.expect(s.send("POST", "/v1/batches?batch=b&redirect_url=https://shop.example/", "application_id\nB-1\n", "Content-Type", csvType), http.StatusUnprocessableEntity, "invalid")
	result := decode[imported](t, s.expect(s.send("POST", "/v1/batches?batch=b", "application_id,redirect_url\nB-1,https://shop.example/\n", "Content-Type", csvType), http.StatusOK, ""))
	if result.Invalid != 1 {
		t.Errorf("an upload with another host in a row: got %+v, want 1 invalid", result)
	}
}
