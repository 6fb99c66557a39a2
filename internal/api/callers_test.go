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

// A key without the scope read gets neither the link of another producer's request
// nor the next one, by no route, and learns nothing by guessing.
func TestWithoutReadAKeySeesOnlyItsOwn(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.work(simulator.Script{}, 100)
	const first = `{"application_id":"A-1","redirect_url":"https://shop.example/1","metadata":{"customer":"42"}}`
	s.expect(s.ask("POST", "/v1/links", first, "Prefer", "wait=30", "Authorization", "Bearer operate,enqueue"), http.StatusCreated, "")
	mine := decoded[tasks.Link](t, s.expect(s.ask("POST", "/v1/links", first, "Authorization", "Bearer operate,enqueue"), http.StatusOK, ""))
	if mine.URL == "" || string(mine.Metadata) != `{"customer":"42"}` {
		t.Errorf("its own link is %+v", mine)
	}
	wrong := strings.Replace(strings.Replace(first, "/1", "/2", 1), "42", "43", 1)
	var answers []string
	for _, body := range []string{first, wrong} {
		a := s.expect(s.ask("POST", "/v1/links", body, "Authorization", "Bearer enqueue", "X-Request-Id", "x"), http.StatusConflict, "conflict")
		answers = append(answers, string(a.body))
		if p := decoded[problem](t, a); !slices.Equal(p.Keys, []string{"application_id", "redirect_url", "metadata"}) {
			t.Errorf("the keys are %v", p.Keys)
		}
	}
	if answers[0] != answers[1] {
		t.Errorf("a right guess is answered\n%s\na wrong one\n%s", answers[0], answers[1])
	}
	for _, body := range []string{`{"application_id":"A-1"}`, `{"application_id":"A-1","generation":2,"redirect_url":"https://evil.example/"}`} {
		s.expect(s.ask("POST", "/v1/links", body, "Prefer", "wait=1", "Authorization", "Bearer enqueue"), http.StatusConflict, "conflict")
	}

	// An upload is no way around it.
	for _, row := range []string{first, wrong} {
		did := decoded[imported](t, s.expect(s.ask("POST", "/v1/batches?batch=guess", row, "Content-Type", ndjsonType, "Authorization", "Bearer enqueue"), http.StatusOK, ""))
		if did.Conflicts != 1 || did.Joined != 0 || len(did.Rejects[0].Errors) != 1 || did.Rejects[0].Errors[0].Key != "application_id" {
			t.Errorf("an upload says %+v", did)
		}
	}
	s.expect(s.ask("POST", "/v1/batches?batch=own&redirect_url=https://shop.example/1", "application_id\nB-1\n", "Content-Type", csvType), http.StatusOK, "")
	for _, guess := range []string{"", "&redirect_url=https://shop.example/1", "&redirect_url=https://shop.example/2"} {
		s.expect(s.ask("POST", "/v1/batches?batch=own"+guess, "application_id\nB-2\n", "Content-Type", csvType, "Authorization", "Bearer enqueue"), http.StatusConflict, "conflict")
	}
	if got := s.batch("own").Rows; got != 1 {
		t.Errorf("the batch has %d rows", got)
	}

	// Whoever sees everything may ask for the next one.
	s.expect(s.ask("POST", "/v1/links", `{"application_id":"A-1","generation":2}`, "Prefer", "wait=30"), http.StatusCreated, "")
}

// A cancel shows no more than what its key may see.
func TestACancelWithoutReadShowsNoMetadata(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.expect(s.ask("POST", "/v1/links", `{"application_id":"A-1","metadata":{"customer":"42"}}`), http.StatusAccepted, "")
	link := decoded[tasks.Link](t, s.expect(s.ask("DELETE", "/v1/links/A-1", "", "Authorization", "Bearer operate"), http.StatusOK, ""))
	if link.Status != tasks.Cancelled || link.Metadata != nil {
		t.Errorf("%+v", link)
	}
}

// hosted are keys that may redirect to some hosts only.
type hosted struct{ hosts []string }

func (h hosted) Verify(ctx context.Context, presented string) (apikey.Key, error) {
	k, err := keys{}.Verify(ctx, presented)
	k.RedirectHosts = h.hosts
	return k, err
}

func TestRedirectHostsOfAKey(t *testing.T) {
	t.Parallel()
	s := openAt(t, fixture.Redis(), func(c *Config) { c.Keys = hosted{[]string{"partner.example"}} })
	s.expect(s.ask("POST", "/v1/links", `{"application_id":"A-1","redirect_url":"https://partner.example/x"}`), http.StatusAccepted, "")
	s.expect(s.ask("POST", "/v1/links", `{"application_id":"A-2"}`), http.StatusAccepted, "")
	s.expect(s.ask("POST", "/v1/links", `{"application_id":"A-3","redirect_url":"https://shop.example/x"}`), http.StatusUnprocessableEntity, "invalid")
	s.expect(s.ask("POST", "/v1/batches?batch=b&redirect_url=https://shop.example/", "application_id\nB-1\n", "Content-Type", csvType), http.StatusUnprocessableEntity, "invalid")
	did := decoded[imported](t, s.expect(s.ask("POST", "/v1/batches?batch=b", "application_id,redirect_url\nB-1,https://shop.example/\n", "Content-Type", csvType), http.StatusOK, ""))
	if did.Invalid != 1 {
		t.Errorf("%+v", did)
	}
}
