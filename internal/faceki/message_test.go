package faceki

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"

	"github.com/kyclink/kyclink/internal/fault"
)

func TestDetail_DescribesEachAnswer(t *testing.T) {
	const checkSettings = "; check FACEKI_BASE_URL and HTTPS_PROXY"
	for _, tt := range []struct {
		status int
		header http.Header
		body   string
		want   string
	}{
		{401, nil, `{"status":false,"statusCode":401,"message":"invalid client"}`, `HTTP 401: "invalid client"`},
		{422, nil, `{"status":false,"message":["client id is required","and a secret"],"statusCode":422}`, `HTTP 422: "client id is required; and a secret"`},
		{200, nil, `{"responseCode":5003,"message":"add\r\ncredit\u001b[31m \u202enow\u200b"}`, `HTTP 200, code 5003: "add credit\u001b[31m \u202enow\u200b"`},
		{500, nil, `{"message":"he said \"no\""}`, `HTTP 500: "he said 'no'"`},
		{500, nil, `{"data":"l1nk","url":"https://apps.faceki.com/l1nk"}`, `HTTP 500`},
		{500, nil, `{"message":"cut o`, `HTTP 500`},
		{502, nil, "upstream connect error", `HTTP 502: "upstream connect error"`},
		{200, nil, "a-link-in-plain-text", `HTTP 200`},
		{400, nil, "", "HTTP 400" + checkSettings},
		{403, nil, "error code: 1020", `HTTP 403: "error code: 1020"` + checkSettings},
		{400, nil, `{"error":"blocked"}`, `HTTP 400: "blocked"` + checkSettings},
		{400, nil, `{"title":"Bad Request","detail":"too long"}`, `HTTP 400: "too long"` + checkSettings},
		{403, nil, "\n<!DOCTYPE HTML>\n<html><head><title>Attention &amp;\n Required!</title>", `HTTP 403: an HTML page titled "Attention & Required!" instead of an answer of FaceKi's API` + checkSettings},
		{200, http.Header{"Content-Type": {"text/html; charset=utf-8"}}, "<p>hello", `HTTP 200: an HTML page instead of an answer of FaceKi's API` + checkSettings},
		{200, nil, `<html><title>Sign in</title><input name="p" type="password">`, `HTTP 200: a login page titled "Sign in" instead of an answer of FaceKi's API` + checkSettings},
		{200, http.Header{"Content-Type": {"Text/HTML"}}, "<p>hello", `HTTP 200: an HTML page instead of an answer of FaceKi's API` + checkSettings},
		{502, http.Header{"Content-Encoding": {"gzip"}}, "\x1f\x8b\x08", `HTTP 502: an answer with the Content-Encoding "gzip", which was not requested`},
		{200, nil, `{"responseCode":0,"data":{"id":"l1nk"},"message":"the link is l1nk"}`, `HTTP 200, code 0`},
		{503, nil, `<!-- x --><html>`, `HTTP 503: an HTML page instead of an answer of FaceKi's API` + checkSettings},
		{302, http.Header{"Location": {"https://login.example/in?secret=s3cr3t-of-shop-7"}}, "", `HTTP 302: a redirect to the host login.example, which is not followed` + checkSettings},
		{307, http.Header{"Location": {"/elsewhere"}}, "", `HTTP 307: a redirect, which is not followed` + checkSettings},
		{500, nil, strings.Repeat("ä", 300), `HTTP 500: "` + strings.Repeat("ä", maxMessage) + `…"`},
	} {
		a := answer{status: tt.status, header: tt.header, body: []byte(tt.body)}
		_, f, _ := config().created(a, false)
		if f == nil || f.Detail != tt.want {
			t.Errorf("HTTP %d with %q: fault\n%v\nwant\n%s", tt.status, tt.body, f, tt.want)
		}
	}
}

// TestRedactor_HidesWhatAMessageRepeats checks that quoted messages hide what FaceKi received
// from the client, in any encoding.
func TestRedactor_HidesWhatAMessageRepeats(t *testing.T) {
	const secret, token = "pQ7+x/Zk9 mW&2vLt", "eyJhbGciOi.JIUzI1NiJ9.c2lnbmF0dXJl"
	p := redactor{secrets: []string{secret, token}, words: []string{"shop-7", "ärzte 1001"}}
	for text, want := range map[string]string{
		"client shop-7 is unknown":                         "client [redacted] is unknown",
		"client SHOP-7":                                    "client [redacted]",
		"no such record: ärzte 1001!":                      "no such record: [redacted]!",
		"the secret " + secret + " is wrong":               "the secret [redacted] is wrong",
		"the secret is " + strings.ToUpper(secret):         "the secret is [redacted]",
		"it begins with " + secret[:11]:                    "it begins with [redacted]",
		"clientSecret=pQ7%2Bx%2FZk9+mW%262vLt":             "[redacted]",
		"token " + token[5:22] + "…":                       "token [redacted]…",
		"Authorization: Bearer abc":                        "Authorization: [redacted]",
		"see https://apps.faceki.com/k/1?a=b, or":          "see [URL] or",
		"link bdb2f0c4-7777-4e4e-9999-aaaabbbbcccc exists": "link [redacted] exists",
		"a_message_of_only_long_words stays":               "a_message_of_only_long_words stays",
		base64.StdEncoding.EncodeToString([]byte(secret)):  "[redacted]",
	} {
		if got := p.line(text, maxMessage); got != want {
			t.Errorf("line(%q) =\n%q, want\n%q", text, got, want)
		}
	}
	// A short word that occurs in a secret does not split the secret into visible parts.
	p.words = []string{"9", "J", "-4"}
	for text, want := range map[string]string{
		"the token is " + token:                "the token is [redacted]",
		"no " + secret + ", no":                "no [redacted], no",
		"id bdb2f0c4-7777-4e4e-9999-aaaa is 9": "id [redacted] is [redacted]",
	} {
		if got := p.line(text, maxMessage); got != want {
			t.Errorf("line(%q) =\n%q, want\n%q", text, got, want)
		}
	}
	p.words = nil
	for i := range secret {
		for j := i + minLeak; j <= len(secret); j++ {
			if got := p.line("x "+secret[i:j]+" y", maxMessage); strings.Contains(got, secret[i:i+minLeak]) {
				t.Errorf("%q shows a part of %q", got, secret[i:j])
			}
		}
	}
}

func FuzzDetail(f *testing.F) {
	const ownText = "[redacted] instead of an answer of FaceKi's API"
	f.Add("s3cr3t-of-shop-7 is wrong", "s3cr3t-of-shop-7")
	f.Add("0", "0000000\xff")
	f.Add("<html><title>s3cr3t-of-shop-7</title>", "s3cr3t-of-shop-7")
	f.Add(`{"message":"S3CR3T-of-shop-7\u202e"}`, "s3cr3t-of-shop-7")
	f.Fuzz(func(t *testing.T, body, secret string) {
		if len(secret) < minLeak || len(secret) > 100 || strings.Trim(secret, "\\u0123456789abcdef") == "" ||
			strings.Contains(ownText, secret) {
			return // the secret may equal text of the client
		}
		a := answer{status: 500, body: []byte(body), redactor: redactor{secrets: []string{secret}}}
		_, fa, _ := config().created(a, false)
		if fa.Kind == fault.NotFaceKi {
			t.Fatalf("HTTP 500 is not from FaceKi: %v", fa)
		}
		checkDetail(t, fa.Detail, 500)
		if _, quoted, _ := strings.Cut(fa.Detail, `"`); strings.Contains(quoted, secret) {
			t.Fatalf("detail %q shows the secret %q", fa.Detail, secret)
		}
	})
}
