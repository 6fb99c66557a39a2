package tasks_test

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/kyclink/kyclink/tasks"
)

func TestIsPlainObject_AcceptsOnlyObjectsInUsualForm(t *testing.T) {
	t.Parallel()
	for _, plain := range []string{`{"customer":"42"}`, `{"a":"b","c":"d e~"}`, `{"":""}`} {
		if !tasks.IsPlainObject([]byte(plain)) {
			t.Errorf("%s is not recognized", plain)
		}
	}
	for _, other := range []string{`{"a":"\"}`, "{\"a\":\"\t\"}", `{"a":"é"}`, `{"a":1}`, `{"a" :"b"}`, `{"a":"b"`, `{"a":"b",}`, `["a":"b"}`, ``} {
		if tasks.IsPlainObject([]byte(other)) {
			t.Errorf("%s passes as a plain object", other)
		}
	}
	part := rapid.SampledFrom([]string{`{`, `}`, `"`, `:`, `,`, ` `, `\`, "\n", `é`, `1`, `a`, `"a":"b"`, `{"a":"b"}`, `{"a":"b",`, `,"c":"d"}`})
	rapid.Check(t, func(t *rapid.T) {
		raw := strings.Join(rapid.SliceOfN(part, 0, 5).Draw(t, "parts"), "")
		if tasks.IsPlainObject([]byte(raw)) && (!json.Valid([]byte(raw)) || raw[0] != '{' || strings.ContainsAny(raw, "\n\\é")) {
			t.Fatalf("%q passes as a plain object", raw)
		}
	})
}

func TestIsPlainURL_AcceptsOnlyWhatTheFullCheckDoes(t *testing.T) {
	t.Parallel()
	for _, plain := range []string{"https://shop.example", "https://shop-1.example/done", "https://SHOP.example/a_b/~c.html?d=e&f=-1"} {
		if !tasks.IsPlainURL(plain) {
			t.Errorf("%s is not recognized", plain)
		}
	}
	part := rapid.SampledFrom([]string{"https:", "http:", "https://", "/", "a", "shop.example", ".", ":", "80", "@", "?", "#", "%", "%41", " ", "\n", "é", "[", "]", "=", "&"})
	rapid.Check(t, func(t *rapid.T) {
		s := "https://" + strings.Join(rapid.SliceOfN(part, 0, 4).Draw(t, "parts"), "")
		if !tasks.IsPlainURL(s) {
			return
		}
		u, err := url.Parse(s)
		if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.Host != u.Hostname() || u.User != nil || strings.ContainsAny(s, " \né") {
			t.Fatalf("%q passes as a plain URL: %v, %v", s, u, err)
		}
	})
}
