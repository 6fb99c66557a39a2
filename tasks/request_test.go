package tasks_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/kyclink/kyclink/tasks"
)

// failer is a *testing.T or a *rapid.T.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// problems returns the text of an InvalidError, or "" without an error.
func problems(t failer, err error) string {
	t.Helper()
	if err == nil {
		return ""
	}
	invalid, ok := errors.AsType[*tasks.InvalidError](err)
	if !ok {
		t.Fatalf("got error %v of type %T, want an InvalidError", err, err)
	}
	return invalid.Error()
}

func with(member string) string { return `{"application_id":"A-1",` + member + `}` }

func id(s string) string {
	quoted, _ := json.Marshal(s)
	return `{"application_id":` + string(quoted) + `}`
}

func long(n int) string { return strings.Repeat("x", n) }

func metadata(n int) string { return `"metadata":{"a":"` + long(n-len(`{"a":""}`)) + `"}` }

// The cases cover every field and both sides of every limit. An empty text means that
// the request is valid.
func TestParseRequest_ReportsEveryProblem(t *testing.T) {
	t.Parallel()
	named := func(c, name string) [2]string {
		return [2]string{id("A" + c), fmt.Sprintf("application_id: contains %q (%s); use printable characters without spaces", []rune(c)[0], name)}
	}
	invisible := func(c string) [2]string {
		return [2]string{id("A" + c), fmt.Sprintf("application_id: contains %q; use printable characters without spaces", []rune(c)[0])}
	}
	for _, c := range [][2]string{
		{`{"application_id":"A-1"}`, ""},
		{" \n{\t\"application_id\" : \"A-1\" }\r\n", ""},
		{`{}`, "application_id: is required"},
		{id(""), "application_id: is empty; omit the key to leave it unset"},
		{id(long(128)), ""}, {id(strings.Repeat("é", 128)), ""}, {id(strings.Repeat("愛", 128)), ""},
		{id(long(129)), "application_id: is longer than 128 characters"},
		{id(strings.Repeat("愛", 129)), "application_id: is longer than 128 characters"},
		{id(`a:1/b{}"\'<>&`), ""}, {id("e\u0301"), ""},
		invisible(" "), invisible("\n"), named("\u00a0", "a non-breaking space"), named("\u3000", "an ideographic space"), invisible("\x00"), invisible("\x7f"),
		named("\u200b", "a zero-width space"), named("\u200d", "a zero-width joiner"), named("\ufeff", "a byte order mark"), named("\u00ad", "a soft hyphen"), invisible("\u202e"),
		invisible("\u034f"), invisible("\u3164"), invisible("\ufe0f"), invisible("\ufffd"), invisible("\ue000"),
		{`{"application_id":"A\ud800"}`, "application_id: contains '\ufffd'; use printable characters without spaces"},
		{id("."), `application_id: is ".", which cannot be part of a URL path; use another`},
		{id(".."), `application_id: is "..", which cannot be part of a URL path; use another`}, {id("..."), ""}, {id(".a"), ""},
		{`{"application_id":1}`, "application_id: must be a string"},
		{`{"application_id":["A"]}`, "application_id: must be a string"},
		{`{"application_id":null}`, "application_id: is null; omit the key to leave it unset"},

		{with(`"redirect_url":"https://shop.example/done?a=b#c"`), ""},
		{with(`"redirect_url":"HTTPS://shop.example"`), ""},
		{with(`"redirect_url":"http://shop.example"`), "redirect_url: must start with https://"},
		{with(`"redirect_url":"shop.example"`), "redirect_url: must start with https://"},
		{with(`"redirect_url":"javascript:alert(1)"`), "redirect_url: must start with https://"},
		{with(`"redirect_url":"https:///done"`), "redirect_url: has no host"},
		{with(`"redirect_url":"https://:443/"`), "redirect_url: has no host"},
		{with(`"redirect_url":"https://u:p@shop.example"`), "redirect_url: must not contain a user name or password"},
		{with(`"redirect_url":"https://shop.example/%zz"`), "redirect_url: is not a URL"},
		{with(`"redirect_url":"https://shop.example/ "`), "redirect_url: contains ' '; use printable characters without spaces"},
		{with(`"redirect_url":"https://s.example/` + long(2048-18) + `"`), ""},
		{with(`"redirect_url":"https://s.example/` + long(2049-18) + `"`), "redirect_url: is longer than 2048 bytes"},
		{with(`"callback_url":"https://shop.example/hooks"`), ""},
		{with(`"callback_url":"ftp://shop.example"`), "callback_url: must start with https://"},

		{with(`"expiry_minutes":1`), ""}, {with(`"expiry_minutes":5256000`), ""},
		{with(`"expiry_minutes":5256001`), "expiry_minutes: must be from 1 to 5256000"},
		{with(`"expiry_minutes":0`), "expiry_minutes: must be at least 1"},
		{with(`"expiry_minutes":-5`), "expiry_minutes: must be at least 1"},
		{with(`"expiry_minutes":-99999999999999999999`), "expiry_minutes: must be at least 1"},
		{with(`"expiry_minutes":99999999999999999999`), "expiry_minutes: is too large"},
		{with(`"expiry_minutes":1.0`), "expiry_minutes: must be a whole number"},
		{with(`"expiry_minutes":1e2`), "expiry_minutes: must be a whole number"},
		{with(`"expiry_minutes":"60"`), "expiry_minutes: must be a whole number"},
		{with(`"expiry_minutes":true`), "expiry_minutes: must be a whole number"},

		{with(`"document_optional":true`), ""}, {with(`"document_optional":false`), ""},
		{with(`"document_optional":"true"`), "document_optional: must be true or false"},
		{with(`"document_optional":1`), "document_optional: must be true or false"},
		{with(`"document_optional":null`), "document_optional: is null; omit the key to leave it unset"},

		{with(`"workflow_id":"` + long(128) + `"`), ""},
		{with(`"workflow_id":"` + long(129) + `"`), "workflow_id: is longer than 128 characters"},
		{with(`"workflow_id":"a b"`), "workflow_id: contains ' '; use printable characters without spaces"},
		{with(`"lane":"interactive"`), ""}, {with(`"lane":"bulk"`), ""},
		{with(`"lane":"Bulk"`), "lane: must be interactive or bulk"},
		{with(`"lane":""`), "lane: is empty; omit the key to leave it unset"},

		{with(`"not_after":"2000-01-01T00:00:00Z"`), ""}, {with(`"not_after":"9999-12-31T23:59:59.999999999Z"`), ""},
		{with(`"not_after":"2026-12-01T01:00:00+01:00"`), ""},
		{with(`"not_after":"2000-01-01T00:00:00+00:01"`), "not_after: must be between the years 2000 and 9999"},
		{with(`"not_after":"9999-12-31T23:59:59-01:00"`), "not_after: must be between the years 2000 and 9999"},
		{with(`"not_after":"0001-01-01T00:00:00Z"`), "not_after: must be between the years 2000 and 9999"},
		{with(`"not_after":"2026-12-01"`), "not_after: must be a time such as 2026-12-01T00:00:00Z (RFC 3339)"},
		{with(`"not_after":1796083200`), "not_after: must be a string"},

		{with(`"generation":1`), ""}, {with(`"generation":999`), ""},
		{with(`"generation":1000`), "generation: must be from 1 to 999"},
		{with(`"generation":0`), "generation: must be at least 1"},

		{with(`"metadata":{}`), ""}, {with(`"metadata":{"a":[1e999,null,{"b":"\u0000"}]}`), ""},
		{with(metadata(2048)), ""},
		{with(metadata(2049)), "metadata: is longer than 2048 bytes"},
		{with(`"metadata":{"a":"` + strings.Repeat("<", 400) + `"}`), "metadata: is longer than 2048 bytes"}, // as \u003c
		{with(`"metadata":{` + strings.Repeat(" ", 4000) + `}`), ""},
		{with(`"metadata":[]`), "metadata: must be a JSON object"},
		{with(`"metadata":"x"`), "metadata: must be a JSON object"},
		{with(`"metadata":null`), "metadata: is null; omit the key to leave it unset"},

		{``, "is not a JSON object"}, {`null`, "is not a JSON object"}, {`[]`, "is not a JSON object"},
		{"\ufeff{}", "is not a JSON object"},
		{"{\"application_id\":\"\xff\"}", "is not valid UTF-8"},
		{`{"application_id":"A-1"} {}`, "has text after the JSON object"},
		{`{"application_id":"A-1"}x`, "has text after the JSON object"},
		{"{\"application_id\":\"A-1\"}\x00", "has text after the JSON object"},
		{`{"application_id":"A-1"`, "is not valid JSON: unexpected end of input"},
		{`{"application_id":"A-1","lane":"bulk","lane":"bulk","lane":"bulk"}`, "lane: is given twice"},
		{with(`"Lane":"bulk"`), "Lane: unknown key"}, {with(`"":1`), "unknown key"},
		{`{"zz":1,"b":null,"redirect_url":"x","a":{},"zz":2,"generation":1.5,"application_id":"","lane":"x","callback_url":"ftp://x"}`,
			"zz: is given twice; application_id: is empty; omit the key to leave it unset; generation: must be a whole number; " +
				"zz: unknown key; b: unknown key; a: unknown key; " +
				"redirect_url: must start with https://; lane: must be interactive or bulk; callback_url: must start with https://"},
	} {
		for range 3 { // the order of maps differs each time
			if _, err := tasks.ParseRequest([]byte(c[0])); problems(t, err) != c[1] {
				t.Errorf("%.100s\n got %v\nwant %s", c[0], err, c[1])
			}
		}
	}
	for _, text := range []string{`{"application_id":"A-1",}`, `{,}`, `{1:2}`, `{"a" 1}`, `{"a":}`, `{"a":01}`, `{"a":NaN}`, `{"a":'x'}`} {
		if _, err := tasks.ParseRequest([]byte(text)); !strings.HasPrefix(problems(t, err), "is not valid JSON: ") {
			t.Errorf("%s: got %v, want an error of JSON syntax", text, err)
		}
	}
}

func parseText(values map[string]string) (tasks.Request, error) {
	return tasks.ParseText(func(key string) string { return values[key] })
}

func TestParseText_ReportsWhatIsWrongOnlyAsText(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ key, value, problem string }{
		{"expiry_minutes", "+5", "must be a whole number"}, {"expiry_minutes", "007", "must be a whole number"},
		{"expiry_minutes", " 5", "must be a whole number"}, {"expiry_minutes", "-0", "must be at least 1"},
		{"document_optional", "TRUE", "must be true or false"}, {"metadata", "null", "must be a JSON object"},
		{"metadata", "{}x", "must be a JSON object"}, {"metadata", "{\"a\":\"\xff\"}", "is not valid UTF-8"},
		{"workflow_id", "\xff", "is not valid UTF-8"},
	} {
		if _, err := parseText(map[string]string{"application_id": "A-1", c.key: c.value}); problems(t, err) != c.key+": "+c.problem {
			t.Errorf("%s=%q: got %v, want %s", c.key, c.value, err, c.problem)
		}
	}
	if _, err := parseText(map[string]string{"application_id": "A-1", "colour": "red", "lane": ""}); err != nil {
		t.Errorf("with an unknown and an empty text: got %v, want both ignored", err)
	}
}

// No parser returns such a request, but a Go program can build it.
func TestValidate_RefusesValuesThatParsersDoNotReturn(t *testing.T) {
	t.Parallel()
	late := time.Date(9999, 12, 31, 23, 59, 0, 0, time.FixedZone("", -3600))
	r := tasks.Request{ApplicationID: "\xff", ExpiryMinutes: -1, Generation: -1, NotAfter: late, Metadata: json.RawMessage("{\"\xff\":1}")}
	want := "application_id: is not valid UTF-8; expiry_minutes: must be from 1 to 5256000; " +
		"not_after: must be between the years 2000 and 9999; generation: must be from 1 to 999; metadata: is not valid UTF-8"
	if err := r.Validate(); problems(t, err) != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestParseText_AgreesWithParseRequest(t *testing.T) {
	t.Parallel()
	values := map[string]*rapid.Generator[string]{
		"application_id":    rapid.OneOf(rapid.StringN(1, 140, -1), rapid.StringMatching(`[A-Z0-9-]{1,130}`)),
		"redirect_url":      rapid.OneOf(rapid.SampledFrom([]string{"https://a.example", "http://a.example", "https://a.example/ b"}), rapid.StringN(1, 20, -1)),
		"expiry_minutes":    rapid.StringMatching(`-?(0|[1-9][0-9]{0,20})`),
		"document_optional": rapid.SampledFrom([]string{"true", "false"}),
		"lane":              rapid.SampledFrom([]string{"interactive", "bulk", "fast"}),
		"not_after":         rapid.SampledFrom([]string{"2026-12-01T00:00:00Z", "1999-12-01T00:00:00Z", "9999-12-31T23:59:59-01:00", "soon"}),
		"generation":        rapid.StringMatching(`[1-9][0-9]{0,4}`),
		"metadata":          rapid.SampledFrom([]string{`{"a": "<"}`, `[1]`, `{}`, `7`}),
	}
	isText := map[string]bool{"application_id": true, "redirect_url": true, "lane": true, "not_after": true}
	keys := slices.Sorted(maps.Keys(values))
	rapid.Check(t, func(rt *rapid.T) {
		texts, members := map[string]string{}, []string{}
		for _, key := range keys {
			if !rapid.Bool().Draw(rt, "gives "+key) {
				continue
			}
			texts[key] = values[key].Draw(rt, key)
			value := texts[key]
			if isText[key] {
				quoted, _ := json.Marshal(value)
				value = string(quoted)
			}
			members = append(members, fmt.Sprintf("%q:%s", key, value))
		}
		fromText, textErr := parseText(texts)
		fromJSON, jsonErr := tasks.ParseRequest([]byte("{" + strings.Join(members, ",") + "}"))
		if problems(rt, textErr) != problems(rt, jsonErr) {
			rt.Fatalf("%v\ntext: %v\nJSON: %v", members, textErr, jsonErr)
		}
		if textErr == nil {
			expectSame(rt, fromText, fromJSON)
		}
	})
}

func expectSame(t failer, a, b tasks.Request) {
	t.Helper()
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	if err1 != nil || err2 != nil || string(x) != string(y) {
		t.Fatalf("the requests differ: %s, %v and %s, %v", x, err1, y, err2)
	}
}

func FuzzParseRequest(f *testing.F) {
	f.Add([]byte(`{"application_id":"A-1","redirect_url":"https://shop.example/done","expiry_minutes":1440,"document_optional":true,` +
		`"workflow_id":"w","lane":"interactive","not_after":"2026-12-01T00:00:00Z","generation":1,"metadata":{"customer":"<42>"}}`))
	f.Add([]byte(`{"application_id":"A\ud800","a":1,"b":null,"a":[}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := tasks.ParseRequest(data)
		if err != nil {
			again := problems(t, err)
			if _, err := tasks.ParseRequest(data); problems(t, err) != again {
				t.Fatalf("parsed twice: got %s, then %v", again, err)
			}
			return
		}
		if !json.Valid(data) {
			t.Fatalf("%q was parsed, but is not valid JSON", data)
		}
		raw, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		again, err := tasks.ParseRequest(raw)
		if err != nil {
			t.Fatalf("parse the JSON of the parsed request, %s: %v", raw, err)
		}
		expectSame(t, r, again)
	})
}

func FuzzParseText(f *testing.F) {
	f.Add("A-1", "60", "true", "2026-12-01T00:00:00Z", `{"a":1}`)
	f.Add("", "-0", "yes", "2026", "\xff")
	f.Fuzz(func(t *testing.T, id, expiry, option, notAfter, metadata string) {
		r, err := parseText(map[string]string{
			"application_id": id, "expiry_minutes": expiry, "document_optional": option, "not_after": notAfter, "metadata": metadata,
		})
		if err != nil {
			problems(t, err)
			return
		}
		raw, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		again, err := tasks.ParseRequest(raw)
		if err != nil {
			t.Fatalf("parse the JSON of the parsed request, %s: %v", raw, err)
		}
		expectSame(t, r, again)
	})
}
