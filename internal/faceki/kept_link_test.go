package faceki

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/request"
)

// otherHostAnswer is an answer with a link on a host that is not allowed by default.
const otherHostAnswer = `{"responseCode":0,"data":"bdb2-77","url":"https://links.faceki.example/kycverify/bdb2-77"}`

// TestCreated_KeepsAnUnusableLinkOnlyForItsHost checks that an unusable link is kept if only
// its host is not allowed, and not for any other reason.
func TestCreated_KeepsAnUnusableLinkOnlyForItsHost(t *testing.T) {
	for body, keeps := range map[string]bool{
		otherHostAnswer: true,
		strings.Replace(otherHostAnswer, "https", "http", 1):                                false,
		strings.Replace(otherHostAnswer, "bdb2-77", "", 1):                                  false,
		strings.Replace(otherHostAnswer, "links.faceki.example", "a:b@links.example", 1):    false,
		strings.Replace(otherHostAnswer, "links.faceki.example", "links.example:8443", 1):   false,
		strings.Replace(otherHostAnswer, "links.faceki.example", "simulator.invalid", 1):    false,
		strings.Replace(otherHostAnswer, "https://links.faceki.example", "https://:443", 1): false,
	} {
		made, f, _ := config().created(answer{status: 200, body: []byte(body)}, false)
		if f == nil || f.Kind != fault.Unusable || (made != request.Link{}) != keeps {
			t.Errorf("%s: link %+v, fault %+v; want the link: %v", body, made, f, keeps)
		}
	}
	_, f, _ := config().created(answer{status: 200, body: []byte(otherHostAnswer)}, false)
	if want := "HTTP 200, code 0, the link is on the host links.faceki.example, which is not in FACEKI_LINK_HOSTS"; !strings.HasPrefix(f.Detail, want) || strings.Contains(f.Detail, "bdb2") {
		t.Errorf("detail %q, want one that begins with %q and does not contain the link", f.Detail, want)
	}
	_, f, _ = config().created(answer{status: 200, body: []byte(strings.Replace(otherHostAnswer, "links.faceki.example", SimulatedHost, 1))}, false)
	if !strings.Contains(f.Detail, "needs --simulate") {
		t.Errorf("fault for a simulated link: %v, want the advice to use --simulate", f)
	}
}

func TestKept_ReturnsTheLinkOnceItsHostIsAllowed(t *testing.T) {
	s := server(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(otherHostAnswer)) })
	creator, _ := client(t, s.URL, func(c *Config) { c.Simulated = false })
	requestedAt := time.UnixMilli(1_800_000_000_000).UTC()
	made, f := creator.CreateLink(t.Context(), Call{ApplicationID: "A-1001", Generation: 2, AdmittedAt: requestedAt})
	if f == nil || made != (request.Link{}) || f.Kept == "" || strings.Contains(f.Kept, "bdb2") {
		t.Fatalf("link %+v, fault %+v; want a fault with the encrypted link", made, f)
	}
	type of struct {
		id         string
		generation int
		kept       string
	}
	a := of{"A-1001", 2, f.Kept}
	kept := func(a of, change func(*Config)) (request.Link, *fault.Fault) {
		c, _ := client(t, s.URL, func(c *Config) {
			c.Simulated, c.LinkHosts = false, []string{"apps.faceki.com", "Links.Faceki.Example"}
			change(c)
		})
		return c.Kept(a.id, a.generation, a.kept)
	}
	if made, f := kept(a, func(*Config) {}); f != nil || made != (request.Link{LinkID: "bdb2-77", URL: "https://links.faceki.example/kycverify/bdb2-77", RequestedAt: requestedAt}) {
		t.Errorf("with its host allowed: link %+v, fault %+v", made, f)
	}
	otherRequest, nextGeneration, damaged := a, a, a
	otherRequest.id, nextGeneration.generation, damaged.kept = "A-1002", 3, "no base64"
	for name, tt := range map[string]struct {
		a      of
		change func(*Config)
		detail string
	}{
		"its host is still not allowed": {a, func(c *Config) { c.LinkHosts = []string{"apps.faceki.com"} }, "links.faceki.example, which is not in FACEKI_LINK_HOSTS"},
		"another secret":                {a, func(c *Config) { c.ClientSecret = "another" }, "encrypted with another client secret"},
		"another request":               {otherRequest, func(*Config) {}, "encrypted with another"},
		"another generation":            {nextGeneration, func(*Config) {}, "encrypted with another"},
		"not base64":                    {damaged, func(*Config) {}, "encrypted with another"},
	} {
		made, f := kept(tt.a, tt.change)
		if f == nil || f.Kind != fault.Unusable || f.Kept != tt.a.kept || made != (request.Link{}) || !strings.Contains(f.Detail, tt.detail) {
			t.Errorf("%s: link %+v, fault %+v; want a fault with %q that keeps the link", name, made, f, tt.detail)
		}
	}
}
