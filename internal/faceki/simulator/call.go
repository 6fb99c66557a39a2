package simulator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

const maxBody = 64 << 10

func (s *Simulator) tokenByPost(w http.ResponseWriter, r *http.Request) {
	var given struct {
		ClientID     string `json:"clientId"`
		ClientSecret string `json:"clientSecret"`
	}
	_ = json.NewDecoder(io.LimitReader(r.Body, maxBody)).Decode(&given) // nothing given is an answer of its own
	s.answerToken(w, r, given.ClientID, given.ClientSecret)
}

func (s *Simulator) tokenByGet(w http.ResponseWriter, r *http.Request) {
	s.answerToken(w, r, r.URL.Query().Get("clientId"), r.URL.Query().Get("clientSecret"))
}

func (s *Simulator) answerToken(w http.ResponseWriter, r *http.Request, id, secret string) {
	s.mu.Lock()
	s.seen.TokenRequests++
	fault := s.script.Outage
	if fault == nil {
		fault = s.script.TokenFault
	}
	s.mu.Unlock()
	if fault != nil {
		s.count(fault.Name)
		if !s.fail(w, r, *fault, success{}) {
			return
		}
	}
	token, ok := s.issue(id, secret)
	switch {
	case id == "":
		s.refuse(w, http.StatusUnprocessableEntity, "unauthorized", "client id is required")
	case secret == "":
		s.refuse(w, http.StatusUnprocessableEntity, "unauthorized", "client secret is required")
	case !ok:
		s.refuse(w, http.StatusUnauthorized, "unauthorized", "invalid client credentials")
	default:
		writeJSON(w, http.StatusOK, map[string]any{"responseCode": 0, "data": map[string]any{
			"access_token": token, "expires_in": int(s.cfg.TokenLifetime / time.Second), "token_type": "Bearer"}})
	}
}

// refuse answers as FaceKi does, in the envelope that was seen.
func (s *Simulator) refuse(w http.ResponseWriter, status int, reason, message string) {
	s.count(reason)
	writeJSON(w, status, map[string]any{"status": false, "message": message, "statusCode": status, "data": struct{}{}})
}

func (s *Simulator) count(reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen.Faults[reason]++
}

// linkRequest is a create call as FaceKi documents it, over both generations.
type linkRequest struct {
	ApplicationID *string         `json:"applicationId"`
	ExpiryTime    json.RawMessage `json:"expiryTime"`
	RedirectURL   json.RawMessage `json:"redirect_url"`
	Optional      json.RawMessage `json:"document_optional"`
	WorkflowID    json.RawMessage `json:"workflowId"`
	Additional    json.RawMessage `json:"require_additional_doc"`
}

func parseLinkRequest(body []byte) (id string, err error) {
	var r linkRequest
	if err := strict(body, &r); err != nil {
		return "", errors.New("the body is not a JSON object of the documented fields")
	}
	if r.ApplicationID != nil {
		id = *r.ApplicationID
	}
	if id == "" {
		return "", errors.New("applicationId is required")
	}
	var s string
	var b bool
	minutes := strings.Trim(string(r.ExpiryTime), `"`)
	if n, err := strconv.Atoi(minutes); r.ExpiryTime != nil && (err != nil || n < 1) {
		return id, errors.New("expiryTime must be minutes")
	}
	for key, raw := range map[string]json.RawMessage{"document_optional": r.Optional, "require_additional_doc": r.Additional} {
		if raw != nil && (string(raw) == "null" || json.Unmarshal(raw, &b) != nil) {
			return id, fmt.Errorf("%s must be a boolean", key)
		}
	}
	for key, raw := range map[string]json.RawMessage{"redirect_url": r.RedirectURL, "workflowId": r.WorkflowID} {
		if raw != nil && (json.Unmarshal(raw, &s) != nil || s == "") {
			return id, fmt.Errorf("%s must be text", key)
		}
		if u, err := url.Parse(s); raw != nil && key == "redirect_url" && (err != nil || u.Host == "") {
			return id, errors.New("redirect_url must be a URL")
		}
	}
	return id, nil
}

func (s *Simulator) createLink(w http.ResponseWriter, r *http.Request) {
	at := s.cfg.Now()
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err != nil {
		panic(http.ErrAbortHandler) // the caller broke off
	}
	id, invalid := parseLinkRequest(body)
	plan := s.arrive(at, id)
	defer s.leave()
	if !sleep(r, plan.latency) {
		return
	}
	switch {
	case plan.outage != nil:
		s.count(plan.outage.Name)
		if !s.fail(w, r, *plan.outage, s.linkOf(id, plan.outage)) {
			return
		}
	case plan.limited != 0:
		w.Header().Set("Retry-After", seconds(plan.limited))
		s.refuse(w, http.StatusTooManyRequests, "rate_limited", "too many requests")
		return
	}
	if !s.authorized(r) {
		s.refuse(w, http.StatusUnauthorized, "unauthorized", "unauthorized")
		return
	}
	if invalid != nil {
		s.count("invalid")
		writeJSON(w, http.StatusBadRequest, map[string]any{"responseCode": 5002, "message": invalid.Error()})
		return
	}
	if fault := s.choose(id); fault != nil {
		if !s.fail(w, r, *fault, s.linkOf(id, fault)) {
			return
		}
	}
	link, paid := s.make(id)
	if !paid {
		s.count("no_credit")
		writeJSON(w, http.StatusOK, map[string]any{"responseCode": 5003, "message": "insufficient balance"})
		return
	}
	writeJSON(w, http.StatusOK, link)
}

// linkOf makes the link where the fault says that one is made first.
func (s *Simulator) linkOf(id string, f *Fault) success {
	if !f.makesLink() || id == "" {
		return success{}
	}
	link, _ := s.make(id)
	return link
}

// plan is what is decided as a call arrives.
type plan struct {
	latency time.Duration
	outage  *Fault
	limited time.Duration // until it may call again; 0: not limited
}

func (s *Simulator) arrive(at time.Time, id string) plan {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inFlight++
	s.seen.LinkCalls++
	s.calls.add(at, id)
	p := plan{latency: time.Duration(s.script.Latency), outage: s.script.Outage}
	if j := int64(s.script.Jitter); j > 0 {
		p.latency += time.Duration(s.random(id, s.seen.LinkCalls).Int64N(2*j+1) - j)
	}
	if s.limiter != nil && p.outage == nil && !s.limiter.AllowN(at, 1) {
		p.limited = time.Duration(s.script.RateLimit.RetryAfter)
		if p.limited == 0 {
			missing := 1 - s.limiter.TokensAt(at)
			p.limited = max(time.Duration(missing/s.script.RateLimit.PerSecond*float64(time.Second)), 1)
		}
	}
	return p
}

func (s *Simulator) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inFlight--
}

// random gives the chances of one call of one id, whatever else is going on.
func (s *Simulator) random(id string, call int) *rand.Rand {
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%s\x00%d", id, call)
	return rand.New(rand.NewPCG(s.script.Seed, h.Sum64()))
}

// choose counts a valid call, and gives the fault that hits it.
func (s *Simulator) choose(id string) *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.application(id)
	a.calls++
	f := s.hit(id, a)
	if f != nil {
		a.faults++
		s.seen.Faults[f.Name]++
	}
	return f
}

func (s *Simulator) hit(id string, a *application) *Fault {
	random := s.random(id, int(a.calls))
	for i, r := range s.script.Rules {
		if !matches(r.Match, id) || (r.Times > 0 && int(a.faults) >= r.Times) {
			continue
		}
		if r.Probability == 0 || random.Float64() < r.Probability {
			return &s.script.Rules[i].Fault
		}
	}
	if most := s.script.MaxFaultsPerID; most > 0 && int(a.faults) >= most {
		return nil
	}
	at := random.Float64()
	for i, c := range s.script.Faults {
		if at -= c.Probability; at < 0 {
			return &s.script.Faults[i].Fault
		}
	}
	return nil
}

// matches lets * stand for a slash too, which path.Match does not.
func matches(pattern, id string) bool {
	flat := strings.NewReplacer("/", "\x00")
	ok, err := path.Match(flat.Replace(pattern), flat.Replace(id))
	return ok && err == nil
}

func (s *Simulator) application(id string) *application {
	a := s.apps[id]
	if a == nil {
		id = strings.Clone(id) // the call's body is not kept with it
		a = new(application)
		s.apps[id] = a
		s.order = append(s.order, id)
	}
	return a
}

// make makes a link, if it is paid for.
func (s *Simulator) make(id string) (success, bool) {
	link := uuid.New()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.credit != nil {
		if *s.credit == 0 {
			return success{}, false
		}
		*s.credit--
	}
	a := s.application(id)
	if a.first == uuid.Nil {
		a.first = link
	} else {
		if a.more == nil {
			s.seen.SeveralLinks++
		}
		a.more = append(a.more, link)
	}
	s.seen.Links++
	return success{LinkID: link.String(), URL: LinkPrefix + link.String()}, true
}

// success is the answer that brings a link.
type success struct {
	ResponseCode int    `json:"responseCode"`
	LinkID       string `json:"data,omitempty"`
	URL          string `json:"url,omitempty"`
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	var body bytes.Buffer
	_ = json.NewEncoder(&body).Encode(v) // our own types
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body.Bytes()) // the caller may be gone
}

// seconds rounds up: a Retry-After has whole seconds.
func seconds(d time.Duration) string { return strconv.Itoa(int(math.Ceil(d.Seconds()))) }

// sleep says whether the caller is still there afterwards.
func sleep(r *http.Request, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.Context().Done():
		return false
	}
}
