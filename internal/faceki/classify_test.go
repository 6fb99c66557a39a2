package faceki

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/request"
)

// config returns a valid configuration.
func config() Config {
	return Config{
		ClientID: "shop-7", ClientSecret: "s3cr3t-of-shop-7", BaseURL: "https://sdk.faceki.com", Auth: AuthPost,
		ExpiryType: ExpiryNumber, LinkHosts: []string{"apps.faceki.com"}, Timeout: 15 * time.Second,
	}
}

// statuses has the fault for every HTTP status without a known code: in an answer of FaceKi,
// and in the answer of another server.
var statuses = []struct {
	from, to     int
	kind         fault.Kind
	scope        fault.Scope
	outcome      fault.Outcome
	foreignKind  fault.Kind
	foreignScope fault.Scope
}{
	{100, 199, fault.Unreadable, fault.FaceKi, fault.Uncertain, fault.Unreadable, fault.FaceKi},
	{200, 299, fault.Unreadable, fault.FaceKi, fault.Uncertain, fault.Unreadable, fault.FaceKi},
	{300, 399, fault.Unauthorized, fault.Account, fault.NoLink, fault.NotFaceKi, fault.Account},
	{400, 400, fault.BadRequest, fault.ThisRequest, fault.NoLink, fault.NotFaceKi, fault.Account},
	{401, 401, fault.Unauthorized, fault.Account, fault.NoLink, fault.Unauthorized, fault.Account},
	{402, 405, fault.Unauthorized, fault.Account, fault.NoLink, fault.NotFaceKi, fault.Account},
	{406, 406, fault.BadRequest, fault.ThisRequest, fault.NoLink, fault.NotFaceKi, fault.Account},
	{407, 407, fault.Unauthorized, fault.Account, fault.NoLink, fault.NotFaceKi, fault.Account},
	{408, 408, fault.TimedOut, fault.FaceKi, fault.Uncertain, fault.TimedOut, fault.FaceKi},
	{409, 424, fault.BadRequest, fault.ThisRequest, fault.NoLink, fault.NotFaceKi, fault.Account},
	{425, 425, fault.ServerError, fault.FaceKi, fault.Uncertain, fault.ServerError, fault.FaceKi},
	{426, 428, fault.BadRequest, fault.ThisRequest, fault.NoLink, fault.NotFaceKi, fault.Account},
	{429, 429, fault.TooMany, fault.Throttle, fault.NoLink, fault.TooMany, fault.Throttle},
	{430, 499, fault.BadRequest, fault.ThisRequest, fault.NoLink, fault.NotFaceKi, fault.Account},
	{500, 502, fault.ServerError, fault.FaceKi, fault.Uncertain, fault.ServerError, fault.FaceKi},
	{503, 503, fault.Unavailable, fault.FaceKi, fault.NoLink, fault.Unavailable, fault.FaceKi},
	{504, 520, fault.ServerError, fault.FaceKi, fault.Uncertain, fault.ServerError, fault.FaceKi},
	{521, 521, fault.Unavailable, fault.FaceKi, fault.NoLink, fault.Unavailable, fault.FaceKi},
	{522, 522, fault.ServerError, fault.FaceKi, fault.Uncertain, fault.ServerError, fault.FaceKi},
	{523, 523, fault.Unavailable, fault.FaceKi, fault.NoLink, fault.Unavailable, fault.FaceKi},
	{524, 524, fault.ServerError, fault.FaceKi, fault.Uncertain, fault.ServerError, fault.FaceKi},
	{525, 526, fault.Unavailable, fault.FaceKi, fault.NoLink, fault.Unavailable, fault.FaceKi},
	{527, 529, fault.ServerError, fault.FaceKi, fault.Uncertain, fault.ServerError, fault.FaceKi},
	{530, 530, fault.Unavailable, fault.FaceKi, fault.NoLink, fault.Unavailable, fault.FaceKi},
	{531, 599, fault.ServerError, fault.FaceKi, fault.Uncertain, fault.ServerError, fault.FaceKi},
}

// bodies are FaceKi's answers with a code, by where the code is.
var bodies = map[string]string{
	"responseCode": `{"responseCode":%d,"message":"m"}`,
	"a string":     `{"responseCode":"%d"}`,
	"statusCode":   `{"status":false,"statusCode":%d,"message":"m","data":{}}`,
	"code":         `{"status":false,"code":%d,"message":"m","result":null}`,
	"both":         `{"responseCode":null,"code":"no number","statusCode":%d,"data":"text"}`,
}

// Bodies without a code: of FaceKi, and of other servers.
var (
	codeless = []string{`{"message":"m"}`, `{"status":false,"message":["a","b"],"data":{}}`, `{"status":false,"code":0}`,
		`{"status":false,"code":"0","message":"m","result":null}`, `{"status":false,"statusCode":0,"message":"m"}`}
	foreign = []string{``, `{}`, `plain text`, `<html>`, `null`, `[]`, `{"responseCode":`,
		`{"responseCode":{}}`, `{"responseCode":0.5}`, `{"code":true}`, `"0"`, `0`, `{"responseCode":0}{}`,
		`<!DOCTYPE html><html><head><title>Attention Required!</title>`, "error code: 1020",
		`{"error":"blocked"}`, `{"error":{"code":400,"message":"m"}}`, `{"message":"no Route matched","request_id":"7"}`,
		`{"type":"about:blank","title":"Bad Request","detail":"m"}`, `{"success":false,"errors":[{"code":1,"message":"m"}]}`,
		`{"message":""}`, `{"message":{"a":1}}`}
)

func TestCreated_ClassifiesEveryStatus(t *testing.T) {
	t.Parallel() // it takes long
	next := 100
	for _, row := range statuses {
		if row.from != next {
			t.Fatalf("the table begins a row with %d, want %d", row.from, next)
		}
		next = row.to + 1
		for status := row.from; status <= row.to; status++ {
			for _, body := range codeless {
				checkFault(t, status, body, row.kind, row.scope, row.outcome)
			}
			for _, body := range foreign {
				checkFault(t, status, body, row.foreignKind, row.foreignScope, row.outcome)
			}
			if status/100 != 2 { // code 0 is a success only with a 2xx status
				checkFault(t, status, `{"responseCode":0,"data":"bdb2-77","url":"https://apps.faceki.com/k/1"}`, row.kind, row.scope, row.outcome)
			}
			checkEmbedded(t, status, row.kind)
		}
	}
	if next != 600 {
		t.Fatalf("the table ends at %d, want 599", next-1)
	}
}

func checkFault(t *testing.T, status int, body string, kind fault.Kind, scope fault.Scope, outcome fault.Outcome) {
	t.Helper()
	made, f, renew := config().created(answer{status: status, body: []byte(body)}, false)
	if f == nil || f.Kind != kind || f.Scope() != scope || f.Outcome() != outcome || made != (request.Link{}) {
		t.Fatalf("HTTP %d with %q: link %+v, fault %+v; want kind %d, scope %v and outcome %v", status, body, made, f, kind, scope, outcome)
	}
	if renew != (status == 401) || !strings.HasPrefix(f.Detail, fmt.Sprintf("HTTP %d", status)) || strings.Contains(f.Detail, "code 0") {
		t.Fatalf("HTTP %d with %q: renew %v, detail %q", status, body, renew, f.Detail)
	}
}

// checkEmbedded uses the status as a code: with a 2xx status, it means the same as the
// status; with another status, it counts only if it is also a code of FaceKi.
func checkEmbedded(t *testing.T, code int, kind fault.Kind) {
	t.Helper()
	for name, body := range bodies {
		a := answer{status: 200, body: fmt.Appendf(nil, body, code)}
		_, f, renew := config().created(a, true)
		if f == nil || f.Kind != kind || renew != (code == 401) || !strings.HasPrefix(f.Detail, fmt.Sprintf("HTTP 200, code %d", code)) {
			t.Fatalf("code %d in %s with HTTP 200: %+v, renew %v; want kind %d", code, name, f, renew, kind)
		}
		if code == 400 || code == 500 {
			continue
		}
		a.status = 403
		if _, f, _ = config().created(a, true); f.Kind != fault.Unauthorized {
			t.Fatalf("code %d in %s with HTTP 403: %+v, want unauthorized", code, name, f)
		}
	}
}

func TestCreated_ClassifiesEveryKnownCode(t *testing.T) {
	t.Parallel() // it takes long
	type row struct {
		code    int
		own     bool // the request names a workflow
		kind    fault.Kind
		outcome fault.Outcome
	}
	rows := []row{
		{1, false, fault.Unauthorized, fault.NoLink},
		{400, false, fault.BadRequest, fault.NoLink},
		{500, false, fault.ServerError, fault.Uncertain},
		{1000, false, fault.ServerError, fault.Uncertain},
		{5001, true, fault.RulesMissing, fault.NoLink},
		{5001, false, fault.AccountRules, fault.NoLink},
		{5003, false, fault.CreditGone, fault.NoLink},
		{5009, false, fault.LimitGone, fault.NoLink},
		{7001, false, fault.AccountRules, fault.NoLink},
		{7001, true, fault.AccountRules, fault.NoLink},
		{8016, false, fault.LinkNotMade, fault.NoLink},
		{8017, false, fault.LimitGone, fault.NoLink},
	}
	named := map[int]bool{}
	for _, r := range rows {
		named[r.code] = true
	}
	for _, hundred := range []int{5000, 8000} {
		for code := hundred; code < hundred+100; code++ {
			if !named[code] {
				rows = append(rows, row{code, true, fault.BadRequest, fault.NoLink})
			}
		}
	}
	for _, r := range rows {
		for name, body := range bodies {
			for status := 100; status <= 599; status++ {
				if !named[r.code] && status%50 != 0 {
					continue // to save time
				}
				a := answer{status: status, body: fmt.Appendf(nil, body, r.code)}
				_, f, renew := config().created(a, r.own)
				if f == nil || f.Kind != r.kind || f.Outcome() != r.outcome || renew != (r.code == 1) {
					t.Fatalf("code %d in %s with HTTP %d: %+v, renew %v; want kind %d and outcome %v", r.code, name, status, f, renew, r.kind, r.outcome)
				}
			}
		}
	}
}

func TestCreated_ClassifiesUnknownCodesByStatus(t *testing.T) {
	for _, code := range []int{2, 99, 600, 999, 1001, 4999, 5100, 7000, 7999, 8100, 123456, -1} {
		for name, body := range bodies {
			a := answer{status: 200, body: fmt.Appendf(nil, body, code)}
			_, f, _ := config().created(a, true)
			if f.Kind != fault.BadRequest {
				t.Errorf("code %d in %s with HTTP 200: %+v, want a bad request", code, name, f)
			}
			if shown := strings.Contains(f.Detail, "code"); shown != (code >= 0 && code < 100000) {
				t.Errorf("code %d: detail %q, which has or lacks the code", code, f.Detail)
			}
			a.status = 502
			if _, f, _ = config().created(a, true); f.Kind != fault.ServerError {
				t.Errorf("code %d in %s with HTTP 502: %+v, want a server error", code, name, f)
			}
		}
	}
}

func TestCreated_UsesTheFirstKnownCode(t *testing.T) {
	for body, kind := range map[string]fault.Kind{
		`{"statusCode":422,"code":5003}`:             fault.CreditGone,
		`{"statusCode":5003,"code":9999}`:            fault.CreditGone,
		`{"responseCode":5009,"statusCode":500}`:     fault.LimitGone,
		`{"code":9999,"statusCode":503}`:             fault.Unavailable,
		`{"responseCode":0,"statusCode":500}`:        fault.Unusable,
		`{"responseCode":"0","code":5003}`:           fault.Unusable,
		`{"status":false,"code":0,"statusCode":429}`: fault.TooMany,
		`{"ResponseCode":5003,"message":"other"}`:    fault.Unreadable,
		`{"responseCode":5003.0}`:                    fault.CreditGone,
		`{"responseCode":"5003.0"}`:                  fault.Unreadable,
		`{"responseCode":1e300}`:                     fault.Unreadable,
	} {
		if _, f, _ := config().created(answer{status: 200, body: []byte(body)}, false); f.Kind != kind {
			t.Errorf("%s: %+v, want kind %d", body, f, kind)
		}
	}
}

func TestCreated_ReturnsTheLinkOfASuccess(t *testing.T) {
	want := request.Link{LinkID: "bdb2-77", URL: "https://apps.faceki.com/kycverify/bdb2-77"}
	for _, status := range []int{200, 201} {
		for _, code := range []string{`0`, `"0"`, `0.0`, `0e0`} {
			body := `{"responseCode":` + code + `,"data":"bdb2-77","url":"https://apps.faceki.com/kycverify/bdb2-77","more":[1]}`
			made, f, _ := config().created(answer{status: status, body: []byte(body)}, false)
			if f != nil || made != want {
				t.Errorf("HTTP %d with code %s: link %+v, fault %+v; want %+v", status, code, made, f, want)
			}
		}
	}
}

func TestCreated_RejectsASuccessWithoutAUsableLink(t *testing.T) {
	const id = `"data":"bdb2-77"`
	for _, body := range []string{
		`{"responseCode":0}`,
		`{"responseCode":0,"data":"","url":"https://apps.faceki.com/k/1"}`,
		`{"responseCode":0,"data":{"id":1},"url":"https://apps.faceki.com/k/1"}`,
		`{"responseCode":0,"data":"two words","url":"https://apps.faceki.com/k/1"}`,
		`{"responseCode":0,` + id + `}`,
		`{"responseCode":0,` + id + `,"url":7}`,
		`{"responseCode":0,` + id + `,"url":"http://apps.faceki.com/k/1"}`,
		`{"responseCode":0,` + id + `,"url":"https://apps.faceki.com.evil.example/k/1"}`,
		`{"responseCode":0,` + id + `,"url":"https://evil.example/apps.faceki.com"}`,
		`{"responseCode":0,` + id + `,"url":"https://apps.faceki.com@evil.example/k/1"}`,
		`{"responseCode":0,` + id + `,"url":"https://u:p@apps.faceki.com/k/1"}`,
		`{"responseCode":0,` + id + `,"url":"https://apps.faceki.com:8443/k/1"}`,
		`{"responseCode":0,` + id + `,"url":"https://simulator.invalid/kycverify/1"}`,
		`{"responseCode":0,` + id + `,"url":"https://apps.faceki.com/k/\n1"}`,
		`{"responseCode":0,` + id + `,"url":"//apps.faceki.com/k/1"}`,
	} {
		_, f, _ := config().created(answer{status: 200, body: []byte(body)}, false)
		if f == nil || f.Kind != fault.Unusable {
			t.Errorf("%s: %+v, want an unusable link", body, f)
		}
	}
	good := `{"responseCode":0,` + id + `,"url":"https://apps.faceki.com/k/1"}`
	for _, status := range []int{202, 204, 299} {
		if _, f, _ := config().created(answer{status: status, body: []byte(good)}, false); f == nil || f.Kind != fault.Unusable {
			t.Errorf("HTTP %d: %+v, want an unusable link", status, f)
		}
	}
	if _, f, _ := config().created(answer{status: 200, body: []byte(good), broken: fault.TimedOut}, false); f == nil || f.Kind != fault.TimedOut {
		t.Errorf("incomplete answer: %+v, want a timeout", f)
	}
}

func TestCreated_AcceptsOnlySimulatedLinksFromTheSimulator(t *testing.T) {
	simulated := config()
	simulated.Simulated = true
	simulated.LinkHosts = []string{"apps.faceki.com", "simulator.invalid"} // Validate rejects this
	for url, ok := range map[string]bool{
		"https://simulator.invalid/kycverify/1": true,
		"https://apps.faceki.com/kycverify/1":   false,
		"https://other.invalid/kycverify/1":     false,
	} {
		body := []byte(`{"responseCode":0,"data":"1","url":"` + url + `"}`)
		if _, f, _ := simulated.created(answer{status: 200, body: body}, false); (f == nil) != ok {
			t.Errorf("%s: fault %v, want a link: %v", url, f, ok)
		}
	}
}

func TestCreated_ReturnsRetryAfter(t *testing.T) {
	_, f, _ := config().created(answer{status: 429, retryAfter: time.Minute}, false)
	if f.RetryAfter != time.Minute {
		t.Errorf("fault %+v, want a minute as RetryAfter", f)
	}
}

func FuzzAnswer(f *testing.F) {
	for _, body := range append(codeless, foreign...) {
		f.Add(200, body, false)
	}
	for _, body := range bodies {
		f.Add(500, fmt.Sprintf(body, 5003), true)
	}
	f.Add(200, `{"responseCode":0,"data":"bdb2-77","url":"https://apps.faceki.com/kycverify/bdb2-77"}`, false)
	f.Add(200, `{"responseCode":0,"data":{"access_token":"t0ken","expires_in":"3600"}}`, false)
	f.Fuzz(func(t *testing.T, status int, body string, own bool) {
		if status < 100 || status > 599 {
			return
		}
		a := answer{status: status, body: []byte(body)}
		made, fa, _ := config().created(a, own)
		if fa == nil {
			if made.LinkID == "" || !strings.HasPrefix(strings.ToLower(made.URL), "https://apps.faceki.com") || strings.ContainsAny(made.URL+made.LinkID, " \n\r\t") {
				t.Fatalf("unusable link: %+v", made)
			}
		} else {
			checkDetail(t, fa.Detail, status)
		}
		if value, life, fa := readTokenAnswer(a); fa == nil {
			if value == "" || life < time.Second || life > maxLifetime {
				t.Fatalf("token %q with a lifetime of %v", string(value), life)
			}
		} else {
			checkDetail(t, fa.Detail, status)
		}
	})
}

// checkDetail checks that a detail is short, printable and on one line.
func checkDetail(t *testing.T, detail string, status int) {
	t.Helper()
	if !strings.HasPrefix(detail, fmt.Sprintf("HTTP %d", status)) || len([]rune(detail)) > 2*maxMessage || !utf8.ValidString(detail) ||
		strings.ContainsFunc(detail, func(r rune) bool { return !unicode.IsPrint(r) }) {
		t.Fatalf("detail %q is too long, not printable or not on one line, or has the wrong status", detail)
	}
}
