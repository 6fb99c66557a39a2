package main

import (
	"encoding/json"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/tasks"
)

// receiver takes callbacks, badly, and remembers what it answered.
type receiver struct {
	t       testing.TB
	address string
	fails   float64 // the share that is answered with 500
	hangs   float64 // the share that is not answered while its sender waits

	mu      sync.Mutex
	secrets []string // any of them will do
	server  *http.Server
	took    map[string][]time.Time // of each event: when it was taken, by 2xx
	refused map[string]int         // of each event: how often it was not
	again   []time.Time            // when what had been taken came again, and
	taken   []time.Time            // when that had been taken
	forged  int
}

// newReceiver makes a receiver that fails so often.
func newReceiver(t testing.TB, fails, hangs float64, secrets ...string) *receiver {
	t.Helper()
	port, err := redistest.FreePort() // it listens there again
	if err != nil {
		t.Fatal(err)
	}
	r := &receiver{t: t, address: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), fails: fails, hangs: hangs, secrets: secrets, took: map[string][]time.Time{}, refused: map[string]int{}}
	r.rise()
	t.Cleanup(r.die)
	return r
}

func (r *receiver) url() string {
	return "http://" + r.address + "/hooks?key=known-to-the-receiver-only"
}

// rise listens, at the address that it had before.
func (r *receiver) rise() {
	r.t.Helper()
	l, err := net.Listen("tcp", r.address)
	if err != nil {
		r.t.Fatal(err)
	}
	r.address = l.Addr().String()
	r.server = &http.Server{Handler: r, ReadHeaderTimeout: time.Minute}
	go func() { _ = r.server.Serve(l) }()
}

// die cuts all connections.
func (r *receiver) die() { _ = r.server.Close() }

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

// count remembers a callback, and gives whether it is taken.
func (r *receiver) count(id string, body []byte, header http.Header, take bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.verified(body, header) {
		r.forged++
		return false
	}
	if before := r.took[id]; len(before) > 0 {
		r.again, r.taken = append(r.again, time.Now()), append(r.taken, before[len(before)-1])
	}
	if !take {
		r.refused[id]++
		return false
	}
	r.took[id] = append(r.took[id], time.Now())
	return true
}

// verified asks the official library.
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
	return len(r.took)
}

// needless counts what came again although it had been taken, but for what was
// taken shortly before one of these moments, when its answer may have been lost;
// and how many those are.
func (r *receiver) needless(lost []time.Time) (n, excuses int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, taken := range r.taken {
		excused := false
		for _, at := range lost {
			excused = excused || taken.After(at.Add(-answerLost)) && taken.Before(at.Add(time.Second)) && r.again[i].After(at)
		}
		if excused {
			excuses++
		} else {
			n++
		}
	}
	return n, excuses
}

// answerLost is how long after an answer a worker may need to record it on a busy
// machine.
const answerLost = 5 * time.Second
