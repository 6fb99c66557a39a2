package simulator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const maxBody = 64 << 10

func (s *Simulator) tokenByPost(w http.ResponseWriter, r *http.Request) {
	var given struct {
		ClientID     string `json:"clientId"`
		ClientSecret string `json:"clientSecret"`
	}
	_ = json.NewDecoder(io.LimitReader(r.Body, maxBody)).Decode(&given) // missing credentials have their own answer
	s.answerToken(w, r, given.ClientID, given.ClientSecret)
}

func (s *Simulator) tokenByGet(w http.ResponseWriter, r *http.Request) {
	s.answerToken(w, r, r.URL.Query().Get("clientId"), r.URL.Query().Get("clientSecret"))
}

func (s *Simulator) answerToken(w http.ResponseWriter, r *http.Request, id, secret string) {
	s.mu.Lock()
	s.counts.TokenRequests++
	fault := s.script.Outage
	if fault == nil {
		fault = s.script.TokenFault
	}
	release := s.released
	s.mu.Unlock()
	if fault != nil {
		s.countFault(fault.Name)
		if !fail(w, r, *fault, success{}, release) {
			return
		}
	}
	token, ok := s.issueToken(id, secret)
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

// refuse answers with an error in FaceKi's envelope.
func (s *Simulator) refuse(w http.ResponseWriter, status int, reason, message string) {
	s.countFault(reason)
	writeJSON(w, status, map[string]any{"status": false, "message": message, "statusCode": status, "data": struct{}{}})
}

// linkRequest is the body of a call that asks for a link, as documented for either
// generation of FaceKi's API.
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
	if err := decodeStrict(body, &r); err != nil {
		return "", errors.New("invalid body: it must be a JSON object with only the documented fields")
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
		return id, errors.New("expiryTime must be a positive number of minutes")
	}
	for key, raw := range map[string]json.RawMessage{"document_optional": r.Optional, "require_additional_doc": r.Additional} {
		if raw != nil && (string(raw) == "null" || json.Unmarshal(raw, &b) != nil) {
			return id, fmt.Errorf("%s must be a boolean", key)
		}
	}
	for key, raw := range map[string]json.RawMessage{"redirect_url": r.RedirectURL, "workflowId": r.WorkflowID} {
		if raw != nil && (json.Unmarshal(raw, &s) != nil || s == "") {
			return id, fmt.Errorf("%s must be a non-empty string", key)
		}
		if u, err := url.Parse(s); raw != nil && key == "redirect_url" && (err != nil || u.Host == "") {
			return id, errors.New("redirect_url must be an absolute URL")
		}
	}
	return id, nil
}

func (s *Simulator) createLink(w http.ResponseWriter, r *http.Request) {
	at := s.cfg.Now()
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err != nil {
		panic(http.ErrAbortHandler) // the caller disconnected
	}
	id, invalid := parseLinkRequest(body)
	reception := s.begin(at, id)
	defer s.end()
	if !sleep(r, reception.latency) {
		return
	}
	switch {
	case reception.outage != nil:
		s.countFault(reception.outage.Name)
		if !fail(w, r, *reception.outage, s.linkOf(id, reception.outage), reception.release) {
			return
		}
	case reception.retryAfter != 0:
		w.Header().Set("Retry-After", seconds(reception.retryAfter))
		s.refuse(w, http.StatusTooManyRequests, "rate_limited", "too many requests")
		return
	}
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); !ok || !s.validToken(token) {
		s.refuse(w, http.StatusUnauthorized, "unauthorized", "unauthorized")
		return
	}
	if invalid != nil {
		s.countFault("invalid")
		writeJSON(w, http.StatusBadRequest, map[string]any{"responseCode": 5002, "message": invalid.Error()})
		return
	}
	if fault := s.chooseFault(id); fault != nil {
		if !fail(w, r, *fault, s.linkOf(id, fault), reception.release) {
			return
		}
	}
	link, paid := s.makeLink(id)
	if !paid {
		s.countFault("no_credit")
		writeJSON(w, http.StatusOK, map[string]any{"responseCode": 5003, "message": "insufficient balance"})
		return
	}
	writeJSON(w, http.StatusOK, link)
}

// linkOf makes the link of a fault that occurs after a link is made.
func (s *Simulator) linkOf(id string, f *Fault) success {
	if !f.makesLink() || id == "" {
		return success{}
	}
	link, _ := s.makeLink(id)
	return link
}

// success is the answer that contains a link.
type success struct {
	ResponseCode int    `json:"responseCode"`
	LinkID       string `json:"data,omitempty"`
	URL          string `json:"url,omitempty"`
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	var body bytes.Buffer
	_ = json.NewEncoder(&body).Encode(v) // cannot fail for these types
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body.Bytes()) // the caller may have disconnected
}

// seconds formats a duration for Retry-After, rounded up to whole seconds.
func seconds(d time.Duration) string { return strconv.Itoa(int(math.Ceil(d.Seconds()))) }

// sleep returns false if the caller disconnects during the pause.
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
