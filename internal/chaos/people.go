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

// people makes the requests of a run. What an id asks for follows from the seed
// and the id alone, so that anybody who meets the id knows what it must say.
type people struct {
	seed  uint64
	began time.Time // whole seconds
	hook  string    // the URL that some want callbacks at
}

func (p people) request(id string) tasks.Request {
	h := fnv.New64a()
	_, _ = h.Write([]byte(id))
	random := rand.New(rand.NewPCG(p.seed, h.Sum64()))
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
		r.NotAfter = p.began.Add(time.Duration(5+random.IntN(60)) * time.Second)
	case random.IntN(10) == 0:
		r.NotAfter = p.began.Add(24 * time.Hour)
	}
	if random.IntN(4) == 0 {
		r.CallbackURL = p.hook
	}
	return r
}

// call is what FaceKi must be told for the id.
func (p people) call(id string) call {
	r := p.request(id)
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

// person is what is known of one id on the producers' side.
type person struct {
	acknowledged int       // the latest generation that was; 0: none
	at           time.Time // when it was first
	asked        int       // the latest generation that somebody asked for
	since        time.Time // when it was first: it was accepted between then and its acknowledgement
	cancelled    bool      // somebody asked for that, whatever came of it
}

// book is what the producers asked for. It is safe for concurrent use.
type book struct {
	mu     sync.Mutex
	people map[string]*person
	ids    []string
	wrong  []string // answers that no producer may get

	promised []promise
}

func newBook() *book { return &book{people: map[string]*person{}} }

func (b *book) ask(id string, generation int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.people[id]
	if p == nil {
		p = new(person)
		b.people[id] = p
		b.ids = append(b.ids, id)
	}
	if generation > p.asked {
		p.asked, p.since = generation, time.Now()
	}
}

func (b *book) acknowledge(id string, generation int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p := b.people[id]; generation > p.acknowledged {
		p.acknowledged, p.at = generation, time.Now()
	}
}

func (b *book) cancel(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.people[id].cancelled = true
}

func (b *book) complain(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wrong = append(b.wrong, fmt.Sprintf(format, args...))
}

func (b *book) knows(id string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.people[id] != nil
}

// any gives some id, "" where there is none yet.
func (b *book) any(random *rand.Rand) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.ids) == 0 {
		return ""
	}
	return b.ids[random.IntN(len(b.ids))]
}

func (b *book) all() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.ids)
}
