package faceki

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/request"
)

// answer is the response to one request.
type answer struct {
	status     int
	retryAfter time.Duration
	body       []byte // at most maxBody
	// broken is why the body is incomplete, or 0. An error status counts anyway.
	broken fault.Kind
	// For the message of the answer, which is redacted.
	header   http.Header
	redactor redactor
}

// envelope is the parsed body. A body that is not a JSON object has no codes; only the HTTP
// status counts then.
type envelope struct {
	faceki  bool // it has the form of FaceKi's answers
	success bool // responseCode is 0; a 0 in another key does not count
	codes   []int
	data    json.RawMessage
	url     string
}

const (
	none      = math.MinInt // no code
	maxShown  = 99999
	maxNumber = 1 << 53 // the largest integer that JSON numbers represent exactly
	maxLinkID = 512
	maxURL    = 2048
)

// keys are the keys of FaceKi's answers. Other servers may also send a message, but with
// other keys.
var keys = []string{"responseCode", "status", "statusCode", "code", "message", "data", "result", "url"}

func parseEnvelope(body []byte) envelope {
	var e envelope
	var object map[string]json.RawMessage
	if json.Unmarshal(body, &object) != nil {
		return e
	}
	for _, key := range []string{"responseCode", "code", "statusCode"} {
		n, ok := number(object[key])
		if ok && n == 0 {
			e.success = e.success || key == "responseCode"
		} else if ok {
			e.codes = append(e.codes, n)
		}
		e.faceki = e.faceki || ok
	}
	if _, ok := object["message"]; ok && !e.faceki {
		e.faceki = words(object["message"]) != "" && !slices.ContainsFunc(slices.Collect(maps.Keys(object)), func(key string) bool {
			return !slices.Contains(keys, key)
		})
	}
	e.data = object["data"]
	e.url, _ = text(object["url"])
	return e
}

// number reads an integer from a number or a string, because FaceKi sends both. 0.0 is an
// integer, too.
func number(raw json.RawMessage) (int, bool) {
	if s, ok := text(raw); ok {
		n, err := strconv.Atoi(s)
		return n, err == nil
	}
	f, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) > maxNumber {
		return 0, false
	}
	return int(f), true
}

func text(raw json.RawMessage) (s string, ok bool) {
	if len(raw) == 0 || raw[0] != '"' {
		return "", false
	}
	return s, json.Unmarshal(raw, &s) == nil
}

// classification is the meaning of an answer.
type classification struct {
	kind fault.Kind // 0 for code 0, a success if the link is usable
	code int        // the code that decided, or none
	// renew reports that the token was refused and a new one may help.
	renew bool
}

// classify is the table of answers. A known code takes precedence over the HTTP status. In
// a 2xx answer, a code from 100 to 599 counts as an HTTP status, and any other code means
// that FaceKi refused the request. ownWorkflow says that the request itself names its
// workflow, which is then at fault for a workflow without rules.
func classify(status int, e envelope, ownWorkflow bool) classification {
	if e.success && status/100 == 2 {
		return classification{0, 0, false}
	}
	for _, code := range e.codes {
		if kind, known := codeKind(code, ownWorkflow); known {
			return classification{kind, code, code == 1}
		}
	}
	code := none
	if len(e.codes) > 0 {
		code = e.codes[0]
	}
	if status/100 != 2 {
		return classification{statusKind(status, e.faceki), code, status == http.StatusUnauthorized}
	}
	for _, code := range e.codes {
		if code >= 100 && code <= 599 {
			return classification{statusKind(code, true), code, code == http.StatusUnauthorized}
		}
	}
	if code != none {
		return classification{fault.BadRequest, code, false}
	}
	return classification{fault.Unreadable, none, false}
}

// codeKind is the table of FaceKi's codes, including the documented ones from 100 to 599.
func codeKind(code int, ownWorkflow bool) (kind fault.Kind, known bool) {
	switch code {
	case 1:
		return fault.Unauthorized, true
	case 400, 5002:
		return fault.BadRequest, true
	case 500, 1000:
		return fault.ServerError, true
	case 5001:
		if ownWorkflow {
			return fault.RulesMissing, true
		}
		return fault.AccountRules, true
	case 5003:
		return fault.CreditGone, true
	case 5009, 8017:
		return fault.LimitGone, true
	case 7001:
		return fault.AccountRules, true
	case 8016:
		return fault.LinkNotMade, true
	}
	if code/100 == 50 || code/100 == 80 { // document and face checks
		return fault.BadRequest, true
	}
	return 0, false
}

// statusKind is the table of HTTP statuses, for answers without a known code. A 4xx status
// counts against the request only in an answer of FaceKi: the answer of a proxy, a firewall
// or a wrong address must not fail a million rows.
func statusKind(status int, faceki bool) fault.Kind {
	switch status {
	case 408:
		return fault.TimedOut
	case 425:
		return fault.ServerError
	case 429:
		return fault.TooMany
	case 503, 521, 523, 525, 526, 530: // those above 520 are from Cloudflare: the origin was not reached
		return fault.Unavailable
	}
	account := status/100 == 3 || slices.Contains([]int{402, 403, 404, 405, 407}, status)
	switch {
	case status == 401, account && faceki:
		return fault.Unauthorized
	case account, status/100 == 4 && !faceki:
		return fault.NotFaceKi
	case status/100 == 4:
		return fault.BadRequest
	case status/100 == 5:
		return fault.ServerError
	}
	return fault.Unreadable // 1xx and 2xx without a known code
}

// created reads the answer to a create call: a link or a fault, or both if the link must be
// kept because only its host is not allowed. renew reports that the token was refused.
func (c Config) created(a answer, ownWorkflow bool) (made request.Link, f *fault.Fault, renew bool) {
	e := parseEnvelope(a.body)
	v := classify(a.status, e, ownWorkflow)
	if a.broken != 0 && a.status/100 == 2 {
		v = classification{a.broken, none, false} // an incomplete success is not a success
	}
	if v.kind != 0 {
		return request.Link{}, v.fault(a), v.renew
	}
	made, host := c.link(a.status, e)
	if made.LinkID != "" && host == "" {
		return made, nil, false
	}
	v.kind = fault.Unusable
	f = v.fault(a)
	if host != "" {
		f.Detail += ", " + c.hostDetail(a.redactor.line(host, maxMessage))
	}
	if c.Simulated || host == SimulatedHost {
		made = request.Link{}
	}
	return made, f, false
}

// hostDetail describes a link whose host is not allowed.
func (c Config) hostDetail(host string) string {
	switch {
	case c.Simulated:
		return "the link is on the host " + host + ", and simulated ones are on " + SimulatedHost
	case host == SimulatedHost:
		return "the link is simulated: FACEKI_BASE_URL is a simulator, which needs --simulate"
	}
	return "the link is on the host " + host + ", which is not in FACEKI_LINK_HOSTS; the link is kept: " +
		"if the host belongs to FaceKi, add it, restart the workers, and retry the request"
}

// fault returns the fault of a classification. It omits the message of an answer with code 0,
// because any of its texts may be a link or a token.
func (v classification) fault(a answer) *fault.Fault {
	f := &fault.Fault{Kind: v.kind, Detail: fmt.Sprintf("HTTP %d", a.status), RetryAfter: a.retryAfter}
	if v.code >= 0 && v.code <= maxShown && (v.code != a.status || a.status/100 == 2) {
		f.Detail += fmt.Sprintf(", code %d", v.code)
	}
	text, foreign := a.message()
	if text != "" && v.code != 0 {
		f.Detail += ": " + text
	}
	if foreign || v.kind == fault.NotFaceKi {
		f.Detail += "; check FACEKI_BASE_URL and HTTPS_PROXY"
	}
	return f
}

// link returns the link of a success, and its host if only that is not allowed.
func (c Config) link(status int, e envelope) (made request.Link, host string) {
	id, _ := text(e.data)
	if (status != http.StatusOK && status != http.StatusCreated) || !e.success {
		return request.Link{}, ""
	}
	if !plain(id, maxLinkID) || !plain(e.url, maxURL) {
		return request.Link{}, ""
	}
	u, err := url.Parse(e.url)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || (u.Port() != "" && u.Port() != "443") {
		return request.Link{}, ""
	}
	if !c.linkHost(u.Hostname()) {
		host = u.Hostname()
	}
	return request.Link{LinkID: id, URL: e.url}, host
}

// plain reports whether s has 1 to limit bytes and only printable characters without
// spaces.
func plain(s string, limit int) bool {
	return s != "" && len(s) <= limit && !strings.ContainsFunc(s, func(r rune) bool {
		return r == unicode.ReplacementChar || unicode.IsSpace(r) || !unicode.IsPrint(r)
	})
}

const maxRetryAfter = fault.MaxRetryAfter
