package faceki

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/request"
)

const elsewhere = `{"responseCode":0,"data":"bdb2-77","url":"https://links.faceki.example/kycverify/bdb2-77"}`

// TestOnlyItsHostIsWrong: such a link is kept, and any other that cannot be used is not.
func TestOnlyItsHostIsWrong(t *testing.T) {
	for body, keeps := range map[string]bool{
		elsewhere: true,
		strings.Replace(elsewhere, "https", "http", 1):                                false,
		strings.Replace(elsewhere, "bdb2-77", "", 1):                                  false,
		strings.Replace(elsewhere, "links.faceki.example", "a:b@links.example", 1):    false,
		strings.Replace(elsewhere, "links.faceki.example", "links.example:8443", 1):   false,
		strings.Replace(elsewhere, "links.faceki.example", "simulator.invalid", 1):    false,
		strings.Replace(elsewhere, "https://links.faceki.example", "https://:443", 1): false,
	} {
		made, f, _ := config().created(answer{status: 200, body: []byte(body)}, false)
		if f == nil || f.Kind != fault.Unusable || (made != request.Link{}) != keeps {
			t.Errorf("%s: %+v %+v", body, made, f)
		}
	}
	_, f, _ := config().created(answer{status: 200, body: []byte(elsewhere)}, false)
	if want := "HTTP 200, code 0, the link is on the host links.faceki.example, which is not in FACEKI_LINK_HOSTS"; !strings.HasPrefix(f.Detail, want) || strings.Contains(f.Detail, "bdb2") {
		t.Errorf("%s, want %s", f.Detail, want)
	}
	_, f, _ = config().created(answer{status: 200, body: []byte(strings.Replace(elsewhere, "links.faceki.example", SimulatedHost, 1))}, false)
	if !strings.Contains(f.Detail, "needs --simulate") {
		t.Error(f)
	}
}

func TestAKeptLinkIsUsedWhenItsHostIsAllowed(t *testing.T) {
	s := server(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(elsewhere)) })
	maker, _ := client(t, s.URL, func(c *Config) { c.Simulated = false })
	asked := time.UnixMilli(1_800_000_000_000).UTC()
	a := attempt.Attempt{Record: request.Record{ApplicationID: "A-1001", Generation: 2}, At: asked}
	made, f := maker.CreateLink(t.Context(), a)
	if f == nil || made != (request.Link{}) || f.Kept == "" || strings.Contains(f.Kept, "bdb2") {
		t.Fatalf("%+v %+v", made, f)
	}
	a.Past = []request.Outcome{{Status: request.Held, Kept: f.Kept}, {Status: request.Held}}
	kept := func(a attempt.Attempt, change func(*Config)) (request.Link, *fault.Fault) {
		c, _ := client(t, s.URL, func(c *Config) {
			c.Simulated, c.LinkHosts = false, []string{"apps.faceki.com", "Links.Faceki.Example"}
			change(c)
		})
		return c.Kept(a)
	}
	if made, f := kept(a, func(*Config) {}); f != nil || made != (request.Link{LinkID: "bdb2-77", URL: "https://links.faceki.example/kycverify/bdb2-77", AskedAt: asked}) {
		t.Errorf("%+v %+v", made, f)
	}
	other, later, torn := a, a, a
	other.ApplicationID, later.Generation = "A-1002", 3
	torn.Past = []request.Outcome{{Kept: "no base64"}}
	for name, tt := range map[string]struct {
		a      attempt.Attempt
		change func(*Config)
		says   string
	}{
		"its host is not allowed still": {a, func(c *Config) { c.LinkHosts = []string{"apps.faceki.com"} }, "links.faceki.example, which is not in FACEKI_LINK_HOSTS"},
		"another secret":                {a, func(c *Config) { c.ClientSecret = "another" }, "encrypted with another client secret"},
		"another request":               {other, func(*Config) {}, "encrypted with another"},
		"another generation":            {later, func(*Config) {}, "encrypted with another"},
		"torn":                          {torn, func(*Config) {}, "encrypted with another"},
	} {
		made, f := kept(tt.a, tt.change)
		if f == nil || f.Kind != fault.Unusable || f.Kept != tt.a.KeptLink() || made != (request.Link{}) || !strings.Contains(f.Detail, tt.says) {
			t.Errorf("%s: %+v %+v", name, made, f)
		}
	}
}
