package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/kyclink/kyclink/internal/faceki/simulator"
)

func call(t *testing.T, u *upstream) (*http.Response, error) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Post(u.url()+"/kycverify/api/kycverify/kyc-verify-link", "application/json", strings.NewReader(`{"applicationId":"A-1","expiryTime":1}`))
	if err == nil {
		_ = resp.Body.Close()
	}
	return resp, err
}

func TestUpstream_RefusesConnectionsUntilItListensAgain(t *testing.T) {
	u, err := openUpstream(simulator.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer u.refuse()
	if _, err := call(t, u); err != nil {
		t.Fatal(err)
	}
	u.refuse()
	u.refuse()
	if _, err := call(t, u); err == nil {
		t.Error("a call while connections are refused: got an answer")
	}
	if err := u.listen(); err != nil {
		t.Fatal(err)
	}
	if _, err := call(t, u); err != nil {
		t.Error(err)
	}
	if calls := u.calls(); len(calls) != 2 || calls[1].ApplicationID != "A-1" {
		t.Errorf("got calls %+v, want 2", calls)
	}
}

func TestUpstream_OmitsRetryAfterIfSet(t *testing.T) {
	u, err := openUpstream(simulator.Config{Script: simulator.Script{Outage: &simulator.Fault{Name: "http_429"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer u.refuse()
	for _, omit := range []bool{false, true} {
		u.omitRetryAfter.Store(omit)
		resp, err := call(t, u)
		if err != nil || resp.StatusCode != http.StatusTooManyRequests || (resp.Header.Get("Retry-After") == "") != omit {
			t.Errorf("omitRetryAfter %v: got answer %v, error %v", omit, resp, err)
		}
	}
}
