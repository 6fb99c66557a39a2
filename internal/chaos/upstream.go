package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"

	"github.com/kyclink/kyclink/internal/faceki/simulator"
)

// upstream is a simulated FaceKi in this process that also checks the content of calls.
type upstream struct {
	*simulator.Simulator
	requested func(id string) (call, bool) // returns the expected call, if the id was requested
	server    *httptest.Server

	mu       sync.Mutex
	problems []string
}

// call is the body of a request to FaceKi.
type call struct {
	ApplicationID    string `json:"applicationId"`
	ExpiryTime       int    `json:"expiryTime"`
	RedirectURL      string `json:"redirect_url"`
	DocumentOptional *bool  `json:"document_optional"`
	WorkflowID       string `json:"workflowId"`
}

func openUpstream(cfg simulator.Config, requested func(string) (call, bool)) *upstream {
	cfg.KeepCalls = 2_000_000
	u := &upstream{Simulator: simulator.New(cfg), requested: requested}
	u.server = httptest.NewServer(u)
	return u
}

func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, "/kyc-verify-link") {
		body, err := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		if err == nil { // otherwise the caller disconnected
			u.compare(body)
		}
	}
	u.Simulator.ServeHTTP(w, r)
}

// compare records a problem if a call is not as expected.
func (u *upstream) compare(body []byte) {
	var got call
	problem := ""
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&got); err != nil {
		problem = fmt.Sprintf("FaceKi received an invalid call: %v", err)
	} else if want, ok := u.requested(got.ApplicationID); !ok {
		problem = fmt.Sprintf("FaceKi was called for %s, which was never requested", got.ApplicationID)
	} else if text(got) != text(want) {
		problem = fmt.Sprintf("FaceKi was called for %s with %s instead of %s", got.ApplicationID, text(got), text(want))
	}
	if problem != "" {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.problems = append(u.problems, problem)
	}
}

func text(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(raw)
}

func (u *upstream) close() {
	u.Release()
	u.server.Close()
}
