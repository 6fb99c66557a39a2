package simulator

import (
	"maps"
	"time"

	"github.com/google/uuid"
	"golang.org/x/time/rate"
)

// State is what the simulator has seen since it was started or reset.
type State struct {
	Counts
	InFlight       int  `json:"in_flight"`       // create calls being answered
	ApplicationIDs int  `json:"application_ids"` // that were asked for
	Credit         *int `json:"credit"`          // links left to pay for; null: never runs out
}

// Counts only grow.
type Counts struct {
	TokenRequests int `json:"token_requests"`
	TokensIssued  int `json:"tokens_issued"`
	LinkCalls     int `json:"link_calls"`
	Links         int `json:"links"`
	// SeveralLinks is the number of application ids with more than one link.
	SeveralLinks int `json:"ids_with_several_links"`
	// Faults counts the answers that were no success, by the fault's name, or
	// unauthorized, invalid, rate_limited, no_credit.
	Faults map[string]int `json:"faults"`
	// RedirectsFollowed counts requests that followed a redirect; none should.
	RedirectsFollowed int `json:"redirects_followed"`
}

// Link is one simulated link.
type Link struct {
	LinkID string `json:"link_id"`
	URL    string `json:"url"`
}

// Application is what happened for one application id.
type Application struct {
	ApplicationID string `json:"application_id"`
	Calls         int    `json:"calls"` // valid ones, with a good token
	Faults        int    `json:"faults"`
	Links         []Link `json:"links"`
}

// Applications is one page of them, in order of first arrival.
type Applications struct {
	Applications []Application `json:"applications"`
	Next         int           `json:"next"` // for the next page's after
	Total        int           `json:"total"`
}

// Call is the arrival of one create call, whatever came of it.
type Call struct {
	Number        int       `json:"number"` // from 1
	At            time.Time `json:"at"`
	ApplicationID string    `json:"application_id"`
}

// Calls is one page of the arrivals that are remembered, oldest first.
type Calls struct {
	Calls []Call `json:"calls"`
	Next  int    `json:"next"`  // for the next page's after
	Total int    `json:"total"` // arrivals in all; the oldest may be forgotten
}

// application is kept small: there may be millions.
type application struct {
	calls, faults int32
	first         uuid.UUID // zero: no link yet
	more          []uuid.UUID
}

func (a *application) links() []uuid.UUID {
	if a.first == uuid.Nil {
		return nil
	}
	return append([]uuid.UUID{a.first}, a.more...)
}

func (a *application) public(id string) Application {
	p := Application{ApplicationID: id, Calls: int(a.calls), Faults: int(a.faults), Links: []Link{}}
	for _, link := range a.links() {
		p.Links = append(p.Links, Link{link.String(), LinkPrefix + link.String()})
	}
	return p
}

// ring remembers the last arrivals.
type ring struct {
	limit int
	total int
	kept  []arrival // arrival n is at (n-1) % limit
}

type arrival struct {
	at int64 // ns
	id string
}

func (r *ring) add(at time.Time, id string) {
	a := arrival{at.UnixNano(), id}
	if len(r.kept) < r.limit {
		r.kept = append(r.kept, a)
	} else {
		r.kept[r.total%r.limit] = a
	}
	r.total++
}

func (r *ring) after(number, limit int) Calls {
	page := Calls{Calls: []Call{}, Total: r.total, Next: max(number, r.total-len(r.kept))}
	for page.Next < r.total && len(page.Calls) < limit {
		a := r.kept[page.Next%r.limit]
		page.Next++
		page.Calls = append(page.Calls, Call{page.Next, time.Unix(0, a.at).UTC(), a.id})
	}
	return page
}

// State gives the totals.
func (s *Simulator) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	state := State{Counts: s.seen, InFlight: s.inFlight, ApplicationIDs: len(s.apps)}
	state.Faults = maps.Clone(s.seen.Faults)
	if s.credit != nil {
		left := *s.credit
		state.Credit = &left
	}
	return state
}

// Application gives what happened for one application id; zero counts where it
// was never asked for.
func (s *Simulator) Application(id string) Application {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.apps[id]
	if a == nil {
		a = new(application)
	}
	return a.public(id)
}

// Applications gives up to limit application ids from number after on; start
// with 0 and go on with Next.
func (s *Simulator) Applications(after, limit int) Applications {
	s.mu.Lock()
	defer s.mu.Unlock()
	page := Applications{Applications: []Application{}, Total: len(s.order), Next: max(after, 0)}
	for page.Next < len(s.order) && len(page.Applications) < limit {
		id := s.order[page.Next]
		page.Applications = append(page.Applications, s.apps[id].public(id))
		page.Next++
	}
	return page
}

// Calls gives up to limit arrivals after the numbered one.
func (s *Simulator) Calls(after, limit int) Calls {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls.after(max(after, 0), limit)
}

// Script gives the script in force. Its credit is what it was set to.
func (s *Simulator) Script() Script {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.script
}

// SetScript puts a script in force for the calls that arrive from now on: the
// rate limit starts with a full burst, and the wallet with the script's credit.
// Counters stay.
func (s *Simulator) SetScript(script Script) error {
	if err := script.Validate(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.script, s.limiter, s.credit = script, nil, nil
	if l := script.RateLimit; l != nil {
		s.limiter = rate.NewLimiter(rate.Limit(l.PerSecond), l.Burst)
	}
	if script.Credit != nil {
		left := *script.Credit
		s.credit = &left
	}
	return nil
}

// TopUp adds links to the wallet; it does nothing where credit never runs out.
func (s *Simulator) TopUp(links int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.credit != nil {
		*s.credit += links
	}
}

// Revoke makes every token that was issued a refused one.
func (s *Simulator) Revoke() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens = make(map[string]time.Time)
}

// Release lets the calls that hang now go on to a link.
func (s *Simulator) Release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.released)
	s.released = make(chan struct{})
}

// Reset forgets everything, tokens too, releases what hangs, and puts the
// script of the configuration in force.
func (s *Simulator) Reset() error {
	s.Release()
	s.mu.Lock()
	s.tokens = make(map[string]time.Time)
	s.seen = Counts{Faults: make(map[string]int)}
	s.apps, s.order = make(map[string]*application), nil
	s.calls = ring{limit: s.cfg.KeepCalls}
	s.mu.Unlock()
	return s.SetScript(s.cfg.Script)
}
