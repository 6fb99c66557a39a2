package tasks_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/kyclink/kyclink/tasks"
)

const (
	oldSecret = "whsec_b2xkIHNlY3JldCBvZiAyNCBieXRlcyEh"
	newSecret = "whsec_bmV3IHNlY3JldCBvZiAyNCBieXRlcyEh"
)

// signed returns the headers of a callback, signed as the specification says, without using this package.
func signed(id string, at time.Time, body string, secrets ...string) http.Header {
	var signatures []string
	for _, secret := range secrets {
		key, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
		mac := hmac.New(sha256.New, key)
		fmt.Fprintf(mac, "%s.%d.%s", id, at.Unix(), body)
		signatures = append(signatures, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	return http.Header{"Webhook-Id": {id}, "Webhook-Timestamp": {fmt.Sprint(at.Unix())}, "Webhook-Signature": {strings.Join(signatures, " ")}}
}

func TestVerifyCallback_RefusesAnythingNotSignedRecentlyWithTheSecret(t *testing.T) {
	t.Parallel()
	const body = `{"type":"link.created","timestamp":"2026-11-23T10:00:00Z","data":{"application_id":"A-1001","generation":1,"run":1,"attempts":1,"possible_duplicates":0}}`
	now := time.Now()
	good := signed("e-1", now, body, newSecret, oldSecret)
	for _, c := range []struct {
		name    string
		secrets []string
		header  http.Header
		body    string
		want    error
	}{
		{"either secret is enough", []string{oldSecret}, good, body, nil},
		{"either secret is enough", []string{newSecret}, good, body, nil},
		{"a receiver with both takes what is signed with one", []string{newSecret, oldSecret}, signed("e-1", now, body, oldSecret), body, nil},
		{"another secret", []string{"whsec_" + base64.StdEncoding.EncodeToString([]byte("somebody else's secret ..."))}, good, body, tasks.ErrInvalidSignature},
		{"no secret", nil, good, body, tasks.ErrInvalidSignature},
		{"another body", []string{newSecret}, good, strings.Replace(body, "A-1001", "A-1002", 1), tasks.ErrInvalidSignature},
		{"another id", []string{newSecret}, changed(good, "Webhook-Id", "e-2"), body, tasks.ErrInvalidSignature},
		{"another time", []string{newSecret}, changed(good, "Webhook-Timestamp", fmt.Sprint(now.Unix()+1)), body, tasks.ErrInvalidSignature},
		{"no signature", []string{newSecret}, changed(good, "Webhook-Signature", ""), body, tasks.ErrInvalidSignature},
		{"of another version", []string{newSecret}, changed(good, "Webhook-Signature", strings.ReplaceAll(good.Get("Webhook-Signature"), "v1", "v2")), body, tasks.ErrInvalidSignature},
		{"nothing", []string{newSecret}, nil, body, tasks.ErrInvalidSignature},
		{"old", []string{newSecret}, signed("e-1", now.Add(-6*time.Minute), body, newSecret), body, tasks.ErrTooOld},
		{"from the future", []string{newSecret}, signed("e-1", now.Add(6*time.Minute), body, newSecret), body, tasks.ErrTooOld},
	} {
		got, err := tasks.VerifyCallback(c.secrets, c.header, []byte(c.body), &tasks.MemoryReplayCache{})
		if !errors.Is(err, c.want) || err == nil && (got.ID != "e-1" || got.Data.ApplicationID != "A-1001") {
			t.Errorf("%s: got %+v, %v; want %v", c.name, got, err, c.want)
		}
	}
	if _, err := tasks.VerifyCallback([]string{"whsec_?secret?"}, good, []byte(body), nil); err == nil || strings.Contains(err.Error(), "?secret?") {
		t.Errorf("a malformed secret: got %v, want an error without the secret", err)
	}
}

// An empty secret is probably a mistake, and anybody can sign with it.
func TestVerifyCallback_RefusesAnEmptySecret(t *testing.T) {
	t.Parallel()
	const body = `{"type":"link.created","timestamp":"2026-11-23T10:00:00Z","data":{"application_id":"A-1001"}}`
	for _, secret := range []string{"", "whsec_"} {
		forged := signed("e-1", time.Now(), body, secret)
		if e, err := tasks.VerifyCallback([]string{secret}, forged, []byte(body), nil); err == nil || e.ID != "" {
			t.Errorf("with the secret %q: got %+v, %v; want an error", secret, e, err)
		}
	}
}

// brokenCache is a replay cache that fails.
type brokenCache struct{}

func (brokenCache) Add(string, time.Time) (bool, error) {
	return true, errors.New("an invented failure")
}

func TestVerifyCallback_ReturnsNoEventWithAnError(t *testing.T) {
	t.Parallel()
	const body = `{"type":"link.created"}`
	header := signed("e-1", time.Now(), body, newSecret)
	e, err := tasks.VerifyCallback([]string{newSecret}, header, []byte(body), brokenCache{})
	if e.ID != "" || err == nil || errors.Is(err, tasks.ErrReplayed) || !strings.Contains(err.Error(), "an invented failure") {
		t.Errorf("with a replay cache that fails: got %+v, %v; want its error and no event", e, err)
	}
	const broken = `{"type":"link.created",`
	e, err = tasks.VerifyCallback([]string{newSecret}, signed("e-1", time.Now(), broken, newSecret), []byte(broken), nil)
	if e.ID != "" || e.Type != "" || err == nil {
		t.Errorf("a body that is not an event: got %+v, %v; want an error and no event", e, err)
	}
}

// changed returns a copy of headers with one value changed.
func changed(h http.Header, key, value string) http.Header {
	h = h.Clone()
	h.Set(key, value)
	return h
}

// A message that was recorded and sent again is refused. A new delivery of the same
// event, which has another timestamp, is not.
func TestVerifyCallback_RefusesReplays(t *testing.T) {
	t.Parallel()
	const body = `{"type":"link.created","timestamp":"2026-11-23T10:00:00Z","data":{"application_id":"A-1001"}}`
	now, seen := time.Now(), &tasks.MemoryReplayCache{}
	for i, c := range []struct {
		header http.Header
		want   error
	}{
		{signed("e-1", now, body, newSecret), nil},
		{signed("e-1", now, body, newSecret), tasks.ErrReplayed},
		{changed(signed("e-1", now, body, newSecret), "Webhook-Timestamp", fmt.Sprintf("+0%d", now.Unix())), tasks.ErrReplayed},
		{signed("e-1", now.Add(5*time.Second), body, newSecret), nil},
		{signed("e-2", now, body, newSecret), nil},
		{signed("e-1", now, body, oldSecret), tasks.ErrInvalidSignature},
		{signed("e-1", now, body, newSecret), tasks.ErrReplayed}, // also after other messages
	} {
		if _, err := tasks.VerifyCallback([]string{newSecret}, c.header, []byte(body), seen); !errors.Is(err, c.want) {
			t.Errorf("message %d: got %v, want %v", i, err, c.want)
		}
	}
}

func TestMemoryReplayCache_ForgetsTheOldestWhenFull(t *testing.T) {
	t.Parallel()
	m, until := &tasks.MemoryReplayCache{}, time.Now().Add(time.Minute)
	first := func(key string) bool { ok, _ := m.Add(key, until); return ok }
	for i := range tasks.MaxReplayCache + 1 {
		if !first(fmt.Sprint(i)) {
			t.Fatalf("message %d: got a replay, want it new", i)
		}
	}
	if first("1") || first(fmt.Sprint(tasks.MaxReplayCache)) {
		t.Error("a remembered message: got it new, want a replay")
	}
	if !first("0") {
		t.Error("the oldest message: got a replay, want it forgotten")
	}
}
