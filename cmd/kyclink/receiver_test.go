package main

import (
	"encoding/json"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/tasks"
)

// receiver is an unreliable receiver of callbacks that records its answers.
type receiver struct {
	t       testing.TB
	address string
	fails   float64 // share of callbacks that are answered with 500
	hangs   float64 // share of callbacks that are not answered

	mu       sync.Mutex
	secrets  []string // any of them is accepted
	server   *http.Server
	accepted map[string]bool // the events that were accepted with 2xx
	refused  map[string]int  // number of times that each event was not accepted
	again    int             // number of times that an accepted event came again
	forged   int
}

// newReceiver starts a receiver that fails or hangs for these shares of the callbacks.
func newReceiver(t testing.TB, fails, hangs float64, secrets ...string) *receiver {
	t.Helper()
	l, err := redistest.Listen() // it listens there again after stop
	fixture.Must(t, err)
	r := &receiver{t: t, address: l.Addr().String(), fails: fails, hangs: hangs, secrets: secrets, accepted: map[string]bool{}, refused: map[string]int{}}
	r.serve(l)
	t.Cleanup(r.stop)
	return r
}

func (r *receiver) url() string {
	return "http://" + r.address + "/hooks?key=known-to-the-receiver-only"
}

// listen starts the server again, at the same address.
func (r *receiver) listen() {
	r.t.Helper()
	l, err := net.Listen("tcp", r.address)
	fixture.Must(r.t, err)
	r.serve(l)
}

func (r *receiver) serve(l net.Listener) {
	r.server = &http.Server{Handler: r, ReadHeaderTimeout: time.Minute}
	go func() { _ = r.server.Serve(l) }()
}

// stop stops the server and closes all connections.
func (r *receiver) stop() { _ = r.server.Close() }

func (r *receiver) trust(secrets ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.secrets = secrets
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	id, chance := req.Header.Get("webhook-id"), rand.Float64()
	if chance < r.hangs {
		r.count(id, body, req.Header, false)
		<-req.Context().Done()
		return
	}
	if !r.count(id, body, req.Header, chance >= r.hangs+r.fails) {
		w.WriteHeader(http.StatusInternalServerError)
	}
}

// count records a callback and reports whether it is accepted.
func (r *receiver) count(id string, body []byte, header http.Header, take bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.verified(body, header) {
		r.forged++
		return false
	}
	if r.accepted[id] {
		r.again++
	}
	if !take {
		r.refused[id]++
		return false
	}
	r.accepted[id] = true
	return true
}

// verified checks the signature with the official library.
func (r *receiver) verified(body []byte, header http.Header) bool {
	var event tasks.Event
	if json.Unmarshal(body, &event) != nil || event.Data.ApplicationID == "" {
		return false
	}
	for _, secret := range r.secrets {
		official, err := standardwebhooks.NewWebhook(secret)
		if err == nil && official.Verify(body, header) == nil {
			return true
		}
	}
	return false
}

func (r *receiver) events() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.accepted)
}
