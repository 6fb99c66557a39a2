package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"time"

	"github.com/kyclink/kyclink/tasks"
)

// callbackSecret must not appear in logs or in Redis, even without its prefix.
const callbackSecret = "whsec_Y2hhb3MgY2FsbGJhY2sgc2VjcmV0IDNmOWQyYzcx"

// receiver receives callbacks and can fail in several ways.
type receiver struct {
	server *httptest.Server

	mu        sync.Mutex
	fault     string               // as in [receiver.answer]; "": none
	recovered chan struct{}        // closed when the current fault ends
	received  map[string]time.Time // first successful answer by event id
	problems  []string
}

func openReceiver() *receiver {
	r := &receiver{received: map[string]time.Time{}, recovered: make(chan struct{})}
	r.server = httptest.NewServer(r)
	return r
}

const callbackPath = "/hooks/chaos"

func (r *receiver) url() string { return r.server.URL + callbackPath }

// settings returns the environment variables that permit callbacks to the receiver.
func (r *receiver) settings() []string {
	return []string{"KYCLINK_CALLBACK_HOSTS=127.0.0.1", "KYCLINK_CALLBACK_ALLOW_CIDRS=127.0.0.0/8", "KYCLINK_CALLBACK_SECRET=" + callbackSecret}
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // the sender disconnected
	}
	event, err := tasks.VerifyCallback([]string{callbackSecret}, req.Header, body, nil)
	switch {
	case req.URL.Path != callbackPath:
		r.addProblem("a redirect was followed to %s", req.URL.Path)
	case err != nil:
		r.addProblem("verify a callback: %v", err)
	default:
		r.answer(w, req, event.ID)
	}
}

// answer answers a callback. During a fault, half of the answers fail.
func (r *receiver) answer(w http.ResponseWriter, req *http.Request, event string) {
	r.mu.Lock()
	fault, recovered := r.fault, r.recovered
	r.mu.Unlock()
	if rand.IntN(2) == 0 {
		fault = ""
	}
	switch fault {
	case "404":
		w.WriteHeader(http.StatusNotFound)
	case "401":
		w.WriteHeader(http.StatusUnauthorized)
	case "500":
		w.WriteHeader(http.StatusInternalServerError)
	case "302":
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(http.StatusFound)
	case "429":
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
	case "hang":
		select {
		case <-recovered:
		case <-req.Context().Done():
		}
		panic(http.ErrAbortHandler)
	case "cut":
		panic(http.ErrAbortHandler)
	case "lost": // received, but the sender gets no answer
		r.receive(event)
		panic(http.ErrAbortHandler)
	default:
		r.receive(event)
		w.WriteHeader(http.StatusNoContent)
	}
}

func (r *receiver) receive(event string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.received[event].IsZero() {
		r.received[event] = time.Now()
	}
}

func (r *receiver) addProblem(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.problems = append(r.problems, fmt.Sprintf(format, args...))
}

// fail starts a fault; "" ends it.
func (r *receiver) fail(fault string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fault = fault; fault == "" {
		close(r.recovered)
		r.recovered = make(chan struct{})
	}
}

func (r *receiver) kinds() []kind {
	var kinds []kind
	for _, fault := range []string{"404", "401", "500", "302", "429", "hang", "cut", "lost"} {
		kinds = append(kinds, kind{"receiver-" + fault, "receiver", time.Second, 4 * time.Second, func(_ context.Context, o injection) error {
			r.fail(fault)
			o.wait()
			r.fail("")
			return nil
		}})
	}
	return kinds
}

func (r *receiver) close() {
	r.fail("")
	r.server.Close()
}

// checkCallbacks checks that every event of a request with a callback URL was received at
// least once, and no others.
func (e evidence) checkCallbacks() (found []string) {
	events := map[string]bool{}
	for _, event := range e.events {
		events[event.ID] = true
		if e.generator.request(event.Data.ApplicationID).CallbackURL != "" && e.received[event.ID].IsZero() {
			found = append(found, fmt.Sprintf("%s of %s (event %s) was never received by its callback URL", event.Type, event.Data.ApplicationID, event.ID))
		}
	}
	for _, id := range sortedIDs(e.received) {
		if !events[id] && !e.mayBeLost(e.received[id]) {
			found = append(found, fmt.Sprintf("event %s was delivered, but it does not exist", id))
		}
	}
	return found
}

// undelivered describes events whose callback has not been received yet.
func (r *rig) undelivered(ctx context.Context) ([]string, error) {
	events, err := r.events(ctx)
	if err != nil {
		return nil, err
	}
	r.receiver.mu.Lock()
	defer r.receiver.mu.Unlock()
	return evidence{generator: r.generator, events: events, received: r.receiver.received, losesWrites: true}.checkCallbacks(), nil
}
