package console

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/kyclink/kyclink/internal/apikey"
)

// send sends a form with repeated fields.
func (b *browser) send(path string, status int, form url.Values) page {
	b.h.Helper()
	return b.expect(b.do(b.values(path, form)), status)
}

func (h *harness) issued() []apikey.Issued {
	h.Helper()
	all, err := h.keys.List(h.Context())
	h.Must(err)
	return all
}

func TestKeys_AreCreatedWithScopesOfTheCreatorOnly(t *testing.T) {
	h := newHarness(t)
	b, audited := h.operator()
	form := url.Values{"name": {"<i>shop"}, "scope": {"read", "operate"}, "hosts": {"shop.example, pay.example"}, "key": {b.key}}
	with := func(name string, values ...string) url.Values {
		changed := cloneValues(form)
		changed[name] = values
		return changed
	}
	other := h.newBrowser(apikey.Read, apikey.Operate)
	for _, tt := range []struct {
		form   url.Values
		status int
		says   string
	}{
		{with("scope", "read", "enqueue"), http.StatusForbidden, "does not have the scope enqueue"},
		{with("scope"), http.StatusUnprocessableEntity, "needs a scope"},
		{with("scope", "<b>"), http.StatusForbidden, "scope &lt;b&gt;"},
		{with("name", ""), http.StatusUnprocessableEntity, "is empty"},
		{with("hosts", "shop.example/x"), http.StatusUnprocessableEntity, "is not a host name alone"},
		{with("key", ""), http.StatusForbidden, "Your own key"},
		{with("key", b.key+"x"), http.StatusForbidden, "Your own key"},
		{with("key", other.key), http.StatusForbidden, "Your own key"},
	} {
		if p := b.send("/keys/create", tt.status, tt.form); !strings.Contains(p.text, tt.says) {
			t.Errorf("%v: the page does not say %q:\n%s", tt.form, tt.says, p.text)
		}
	}
	expectAudited(t, audited(), "")
	if n := len(h.issued()); n != 2 {
		t.Fatalf("there are %d keys, want the 2 of the test", n)
	}

	p := b.send("/keys/create", http.StatusOK, form)
	secret := findAll(p.text, `id="new-key">`)
	if len(secret) != 1 || p.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("the page shows the keys %d times, Cache-Control %q", len(secret), p.Header.Get("Cache-Control"))
	}
	got, err := h.keys.Verify(t.Context(), secret[0])
	h.Must(err)
	if got.Name != "<i>shop" || apikey.JoinScopes(got.Scopes) != "read,operate" || !slices.Equal(got.RedirectHosts, []string{"shop.example", "pay.example"}) {
		t.Errorf("got key %+v", got)
	}
	expectAudited(t, audited(), "Mara keys.create "+got.ID)
	if p := b.get("/keys", http.StatusOK); strings.Contains(p.text, secret[0]) || !strings.Contains(p.text, "&lt;i&gt;shop") {
		t.Error("the list shows a secret, or not the new key")
	}
}

func TestKeys_OfAKeyWithRedirectHostsHaveThemToo(t *testing.T) {
	h := newHarness(t)
	b := h.newBrowser(apikey.Read)
	key, issued, err := h.keys.Create(t.Context(), "partner", []apikey.Scope{apikey.Read, apikey.Operate}, "a.example", "b.example")
	h.Must(err)
	b.key, b.id = key, issued.ID
	b.signIn()
	form := url.Values{"name": {"new"}, "scope": {"read"}, "key": {key}, "hosts": {"a.example,c.example"}}
	if p := b.send("/keys/create", http.StatusForbidden, form); !strings.Contains(p.text, "restricted to the redirect hosts a.example, b.example") {
		t.Errorf("the page does not name the hosts:\n%s", p.text)
	}
	for _, tt := range []struct {
		hosts string
		want  []string
	}{{"", []string{"a.example", "b.example"}}, {"a.example", []string{"a.example"}}} {
		form.Set("hosts", tt.hosts)
		p := b.send("/keys/create", http.StatusOK, form)
		got, err := h.keys.Verify(t.Context(), findAll(p.text, `id="new-key">`)[0])
		h.Must(err)
		if !slices.Equal(got.RedirectHosts, tt.want) {
			t.Errorf("hosts %q: the new key has %v, want %v", tt.hosts, got.RedirectHosts, tt.want)
		}
	}
}

func TestKeys_AreRevokedByTheirName(t *testing.T) {
	h := newHarness(t)
	b, audited := h.operator()
	_, shop, err := h.keys.Create(t.Context(), "shop", apikey.Scopes())
	h.Must(err)
	b.post("/keys/revoke", http.StatusUnprocessableEntity, "id", shop.ID, "confirm", "Shop")
	b.post("/keys/revoke", http.StatusNotFound, "id", "000000000000", "confirm", "shop")
	expectAudited(t, audited(), "")
	b.follow(b.post("/keys/revoke", http.StatusSeeOther, "id", shop.ID, "confirm", "shop"), "The API key is revoked.")
	expectAudited(t, audited(), "Mara keys.revoke "+shop.ID)
	b.post("/keys/revoke", http.StatusConflict, "id", shop.ID, "confirm", "shop")
	expectAudited(t, audited(), "")
	for _, k := range h.issued() {
		if k.RevokedAt.IsZero() == (k.ID == shop.ID) {
			t.Errorf("got key %+v, want only shop to be revoked", k)
		}
	}
	b.post("/keys/revoke", http.StatusSeeOther, "id", b.id, "confirm", "Mara")
	b.get("/keys", http.StatusSeeOther) // signed out
}
