package main

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kyclink/kyclink/tasks"
)

const (
	account         = "default"
	defaultExpiry   = 1440
	defaultWorkflow = "workflow-default"
)

// generator generates the requests of a run. The content of a request depends only on the
// seed and the application id, so every check can reproduce it.
type generator struct {
	seed        uint64
	began       time.Time // whole seconds
	callbackURL string    // callback URL of some requests
}

func (g generator) request(id string) tasks.Request {
	h := fnv.New64a()
	_, _ = h.Write([]byte(id))
	random := rand.New(rand.NewPCG(g.seed, h.Sum64()))
	r := tasks.Request{ApplicationID: id}
	if random.IntN(10) < 7 {
		r.RedirectURL = fmt.Sprintf("https://shop.example/done?person=%d&ü=<%d>", random.Uint32(), random.IntN(100))
	}
	if random.IntN(2) == 0 {
		r.ExpiryMinutes = 1 + random.IntN(100_000)
	}
	if random.IntN(3) > 0 {
		optional := random.IntN(2) == 0
		r.DocumentOptional = &optional
	}
	if random.IntN(3) == 0 {
		r.WorkflowID = fmt.Sprintf("workflow-%d", random.IntN(5))
	}
	if random.IntN(2) == 0 {
		r.Metadata, _ = json.Marshal(map[string]any{"customer": random.Uint32(), "note": "<&> \u2028 Zoë"}) // strings and numbers
	}
	switch {
	case strings.Contains(id, "-late-"):
		r.NotAfter = g.began.Add(time.Duration(5+random.IntN(60)) * time.Second)
	case random.IntN(10) == 0:
		r.NotAfter = g.began.Add(24 * time.Hour)
	}
	if random.IntN(4) == 0 {
		r.CallbackURL = g.callbackURL
	}
	return r
}

// call returns the expected call to FaceKi for an application id.
func (g generator) call(id string) call {
	r := g.request(id)
	c := call{ApplicationID: id, ExpiryTime: r.ExpiryMinutes, RedirectURL: r.RedirectURL,
		DocumentOptional: r.DocumentOptional, WorkflowID: r.WorkflowID}
	if c.ExpiryTime == 0 {
		c.ExpiryTime = defaultExpiry
	}
	if c.WorkflowID == "" {
		c.WorkflowID = defaultWorkflow
	}
	return c
}

// history is what the producers know about an application id.
type history struct {
	acknowledged   int       // latest acknowledged generation; 0: none
	acknowledgedAt time.Time // first acknowledgement of that generation
	requested      int       // latest requested generation
	requestedAt    time.Time // first request for that generation
	cancelled      bool      // a cancellation was attempted
}

// journal records the requests of all producers. It is safe for concurrent use.
type journal struct {
	mu        sync.Mutex
	histories map[string]*history
	ids       []string
	problems  []string // unexpected answers

	apiLinks []apiLink
}

func newJournal() *journal { return &journal{histories: map[string]*history{}} }

func (j *journal) addRequest(id string, generation int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	p := j.histories[id]
	if p == nil {
		p = new(history)
		j.histories[id] = p
		j.ids = append(j.ids, id)
	}
	if generation > p.requested {
		p.requested, p.requestedAt = generation, time.Now()
	}
}

func (j *journal) acknowledge(id string, generation int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if p := j.histories[id]; generation > p.acknowledged {
		p.acknowledged, p.acknowledgedAt = generation, time.Now()
	}
}

func (j *journal) cancel(id string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.histories[id].cancelled = true
}

func (j *journal) addProblem(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.problems = append(j.problems, fmt.Sprintf(format, args...))
}

func (j *journal) knows(id string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.histories[id] != nil
}

// anyID returns a random id, or "" if there is none yet.
func (j *journal) anyID(random *rand.Rand) string {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.ids) == 0 {
		return ""
	}
	return j.ids[random.IntN(len(j.ids))]
}

func (j *journal) all() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.ids)
}
