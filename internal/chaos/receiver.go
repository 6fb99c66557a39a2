package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/kyclink/kyclink/tasks"
)

// callbackSecret is looked for in what must not have it, without its prefix.
const callbackSecret = "whsec_Y2hhb3MgY2FsbGJhY2sgc2VjcmV0IDNmOWQyYzcx"

// receiver takes callbacks in this process, and fails as it is told.
type receiver struct {
	addr   string
	server *http.Server
	ended  sync.WaitGroup

	mu    sync.Mutex
	fault string               // see answer; "" for none
	well  chan struct{}        // closed when the present fault is over
	taken map[string]time.Time // of each event: when it was first answered with 2xx
	wrong []string
}

func openReceiver() (*receiver, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start the receiver of callbacks: %w", err)
	}
	r := &receiver{addr: l.Addr().String(), taken: map[string]time.Time{}, well: make(chan struct{})}
	r.server = &http.Server{Handler: r, ReadHeaderTimeout: 10 * time.Second}
	r.ended.Go(func() { _ = r.server.Serve(l) }) // ends by Close, and nothing else ends it
	return r, nil
}

const hookPath = "/hooks/chaos"

func (r *receiver) url() string { return "http://" + r.addr + hookPath }

// settings let workers and producers use it.
func (r *receiver) settings() []string {
	return []string{"KYCLINK_CALLBACK_HOSTS=127.0.0.1", "KYCLINK_CALLBACK_ALLOW_CIDRS=127.0.0.0/8", "KYCLINK_CALLBACK_SECRET=" + callbackSecret}
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // the sender broke off
	}
	event, err := tasks.VerifyCallback([]string{callbackSecret}, req.Header, body, nil)
	switch {
	case req.URL.Path != hookPath:
		r.complain("a redirect was followed to %s", req.URL.Path)
	case err != nil:
		r.complain("a callback cannot be verified: %v", err)
	default:
		r.answer(w, req, event.ID)
	}
}

// answer fails half of the time while there is a fault.
func (r *receiver) answer(w http.ResponseWriter, req *http.Request, event string) {
	r.mu.Lock()
	fault, well := r.fault, r.well
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
		case <-well:
		case <-req.Context().Done():
		}
		panic(http.ErrAbortHandler)
	case "cut":
		panic(http.ErrAbortHandler)
	case "lost": // it has it, and the sender does not learn that
		r.take(event)
		panic(http.ErrAbortHandler)
	default:
		r.take(event)
		w.WriteHeader(http.StatusNoContent)
	}
}

func (r *receiver) take(event string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.taken[event].IsZero() {
		r.taken[event] = time.Now()
	}
}

func (r *receiver) complain(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wrong = append(r.wrong, fmt.Sprintf(format, args...))
}

// fail begins a fault, or ends all with "".
func (r *receiver) fail(fault string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fault = fault; fault == "" {
		close(r.well)
		r.well = make(chan struct{})
	}
}

func (r *receiver) kinds() []kind {
	var kinds []kind
	for _, fault := range []string{"404", "401", "500", "302", "429", "hang", "cut", "lost"} {
		kinds = append(kinds, kind{"receiver-" + fault, "receiver", time.Second, 4 * time.Second, func(_ context.Context, o occasion) error {
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
	_ = r.server.Close()
	r.ended.Wait()
}

// delivered is that every event of a request with a callback was taken at least
// once, and that nothing else was.
func (e evidence) delivered() (found []string) {
	events := map[string]bool{}
	for _, event := range e.events {
		events[event.ID] = true
		if e.people.request(event.Data.ApplicationID).CallbackURL != "" && e.taken[event.ID].IsZero() {
			found = append(found, fmt.Sprintf("%s of %s (%s) was never taken by its receiver", event.Type, event.Data.ApplicationID, event.ID))
		}
	}
	for _, id := range sortedIDs(e.taken) {
		if !events[id] && !e.lost(e.taken[id]) {
			found = append(found, fmt.Sprintf("event %s was delivered, and there is none", id))
		}
	}
	return found
}

// undelivered names events that their receiver has not taken yet.
func (r *rig) undelivered(ctx context.Context) ([]string, error) {
	events, err := r.events(ctx)
	if err != nil {
		return nil, err
	}
	r.receiver.mu.Lock()
	defer r.receiver.mu.Unlock()
	return evidence{people: r.people, events: events, taken: r.receiver.taken, forgets: true}.delivered(), nil
}
