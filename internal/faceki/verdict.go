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

// answer is what came back for one request.
type answer struct {
	status     int
	retryAfter time.Duration
	body       []byte // at most maxBody
	// broken is why the body was not read to its end: fault.Unreadable or
	// fault.TimedOut, 0 where it was. A status that says no counts all the same.
	broken fault.Kind
	// What it says in its own words is quoted without what is private.
	header  http.Header
	private private
}

// envelope is what is read of a body, in any of its shapes. A body that is no
// JSON object has no codes, and then the HTTP status speaks alone.
type envelope struct {
	faceki  bool // it is one that FaceKi answers in
	success bool // responseCode is there and 0, which no other code says
	codes   []int
	data    json.RawMessage
	url     string
}

const (
	none      = math.MinInt // no code
	maxShown  = 99999
	maxNumber = 1 << 53 // up to which a number of JSON is exact
	maxLinkID = 512
	maxURL    = 2048
)

// keys are those of FaceKi's envelopes; something else that answers may have a
// message as well, but has others besides.
var keys = []string{"responseCode", "status", "statusCode", "code", "message", "data", "result", "url"}

func open(body []byte) envelope {
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

// number reads a whole number, also from a string: both are seen. JSON may write one
// as 0.0, too.
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

// verdict is what an answer means.
type verdict struct {
	kind fault.Kind // 0: code 0, which is a success if the link can be used
	code int        // the code that decided, or none
	// renew says that the token was refused, which a new one may mend.
	renew bool
}

// judge is the table of answers. A known code wins over the HTTP status, a code
// that is an HTTP status counts as that inside a 2xx, and any other code means
// that FaceKi refused the request for a reason of its own.
func judge(status int, e envelope, ownWorkflow bool) verdict {
	if e.success && status/100 == 2 {
		return verdict{0, 0, false}
	}
	for _, code := range e.codes {
		if kind, known := codeKind(code, ownWorkflow); known {
			return verdict{kind, code, code == 1}
		}
	}
	code := none
	if len(e.codes) > 0 {
		code = e.codes[0]
	}
	if status/100 != 2 {
		return verdict{statusKind(status, e.faceki), code, status == http.StatusUnauthorized}
	}
	for _, code := range e.codes {
		if code >= 100 && code <= 599 {
			return verdict{statusKind(code, true), code, code == http.StatusUnauthorized}
		}
	}
	if code != none {
		return verdict{fault.BadRequest, code, false}
	}
	return verdict{fault.Unreadable, none, false}
}

// codeKind is the table of FaceKi's own codes, those of 100 to 599 that it
// documents included.
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
	if code/100 == 50 || code/100 == 80 { // checks of documents and faces
		return fault.BadRequest, true
	}
	return 0, false
}

// statusKind is the table of HTTP statuses, for answers without a known code. Of a
// status that says that the request is wrong, only FaceKi's own is believed: what a
// proxy, a firewall or a wrong address answers must not fail a million rows.
func statusKind(status int, faceki bool) fault.Kind {
	switch status {
	case 408:
		return fault.TimedOut
	case 425:
		return fault.ServerError
	case 429:
		return fault.TooMany
	case 503, 521, 523, 525, 526, 530: // those above 520 are Cloudflare's: the origin was not reached
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
	return fault.Unreadable // 1xx and 2xx: FaceKi says nothing that is known
}

// created reads the answer to a create call: a link or a fault, or both where the link
// is to be kept, as only its host is not allowed. renew says that the token was refused.
func (c Config) created(a answer, ownWorkflow bool) (made request.Link, f *fault.Fault, renew bool) {
	e := open(a.body)
	v := judge(a.status, e, ownWorkflow)
	if a.broken != 0 && a.status/100 == 2 {
		v = verdict{a.broken, none, false} // never half an answer for a whole one
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
		f.Detail += ", " + c.strange(a.private.line(host, maxSaid))
	}
	if c.Simulated || host == SimulatedHost {
		made = request.Link{}
	}
	return made, f, false
}

// strange says of a link that would be good what is wrong with its host.
func (c Config) strange(host string) string {
	switch {
	case c.Simulated:
		return "the link is on the host " + host + ", and simulated ones are on " + SimulatedHost
	case host == SimulatedHost:
		return "the link is simulated: FACEKI_BASE_URL is a simulator, which needs --simulate"
	}
	return "the link is on the host " + host + ", which FACEKI_LINK_HOSTS does not allow; the link is kept: " +
		"if the host is FaceKi's, add it, restart the workers, and retry the request"
}

// fault words the verdict. Of an answer that may have brought a link or a token, nothing
// is kept in its own words: it may be in any of them.
func (v verdict) fault(a answer) *fault.Fault {
	f := &fault.Fault{Kind: v.kind, Detail: fmt.Sprintf("HTTP %d", a.status), RetryAfter: a.retryAfter}
	if v.code >= 0 && v.code <= maxShown && (v.code != a.status || a.status/100 == 2) {
		f.Detail += fmt.Sprintf(", code %d", v.code)
	}
	said, foreign := a.said()
	if said != "" && v.code != 0 {
		f.Detail += ": " + said
	}
	if foreign || v.kind == fault.NotFaceKi {
		f.Detail += "; check FACEKI_BASE_URL and HTTPS_PROXY"
	}
	return f
}

// link gives the link of a success, and its host where that alone is not allowed.
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

// plain says whether s is of 1 to limit bytes, printable and without blanks.
func plain(s string, limit int) bool {
	return s != "" && len(s) <= limit && !strings.ContainsFunc(s, func(r rune) bool {
		return r == unicode.ReplacementChar || unicode.IsSpace(r) || !unicode.IsPrint(r)
	})
}

const maxRetryAfter = fault.MaxRetryAfter
