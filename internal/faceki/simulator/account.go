package simulator

import (
	"crypto/subtle"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/time/rate"
)

// account is the state of a simulated FaceKi account. It is safe for concurrent use.
type account struct {
	cfg Config

	mu           sync.Mutex
	script       Script
	preset       Preset        // "" with a script that was set otherwise
	limiter      *rate.Limiter // nil: no limit
	credit       *int          // remaining links; nil: unlimited
	released     chan struct{} // closed when hanging calls may continue
	tokens       map[string]time.Time
	counts       Counts
	inFlight     int
	applications map[string]*application
	ids          []string // application ids in order of their first call
	calls        callLog
}

// State returns the totals.
func (a *account) State() State {
	a.mu.Lock()
	defer a.mu.Unlock()
	state := State{Counts: a.counts, InFlight: a.inFlight, ApplicationIDs: len(a.applications)}
	state.Faults = maps.Clone(a.counts.Faults)
	if a.credit != nil {
		credit := *a.credit
		state.Credit = &credit
	}
	return state
}

// Application returns the calls and links of an application id; zero counts if the id is
// unknown.
func (a *account) Application(id string) Application {
	a.mu.Lock()
	defer a.mu.Unlock()
	app := a.applications[id]
	if app == nil {
		app = new(application)
	}
	return app.public(id)
}

// Applications returns up to limit application ids after the given position. The first
// page starts at 0, the following ones at Next.
func (a *account) Applications(after, limit int) Applications {
	a.mu.Lock()
	defer a.mu.Unlock()
	page := Applications{Applications: []Application{}, Total: len(a.ids), Next: max(after, 0)}
	for page.Next < len(a.ids) && len(page.Applications) < limit {
		id := a.ids[page.Next]
		page.Applications = append(page.Applications, a.applications[id].public(id))
		page.Next++
	}
	return page
}

// Calls returns up to limit arrivals after the given number.
func (a *account) Calls(after, limit int) Calls {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.calls.page(max(after, 0), limit)
}

// Script returns the script in effect, with its initial credit.
func (a *account) Script() Script {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.script
}

// SetScript puts a script into effect for subsequent calls. The rate limit starts with
// a full burst, and the credit is that of the script. Counters are kept.
func (a *account) SetScript(script Script) error {
	if err := script.Validate(); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.script, a.preset, a.limiter, a.credit = script, "", nil, nil
	if l := script.RateLimit; l != nil {
		a.limiter = rate.NewLimiter(rate.Limit(l.PerSecond), l.Burst)
	}
	if script.Credit != nil {
		credit := *script.Credit
		a.credit = &credit
	}
	return nil
}

// TopUp adds credit for a number of links. It has no effect if credit is unlimited.
func (a *account) TopUp(links int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.credit != nil {
		*a.credit += links
	}
}

// Revoke invalidates all tokens issued so far.
func (a *account) Revoke() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tokens = make(map[string]time.Time)
}

// Release lets the calls that are in flight now continue as if there had been no fault, if they
// hang.
func (a *account) Release() {
	a.mu.Lock()
	defer a.mu.Unlock()
	close(a.released)
	a.released = make(chan struct{})
}

// reset releases hanging calls and restores the initial state.
func (a *account) reset() error {
	a.Release()
	a.mu.Lock()
	a.tokens = make(map[string]time.Time)
	a.counts = Counts{Faults: make(map[string]int)}
	a.applications, a.ids = make(map[string]*application), nil
	a.calls = callLog{limit: a.cfg.KeepCalls}
	a.mu.Unlock()
	return a.Switch(NoFaults)
}

// issueToken returns a new token if the credentials are correct.
func (a *account) issueToken(id, secret string) (token string, ok bool) {
	if id == "" || secret == "" || !accepts(a.cfg.ClientID, id) || !accepts(a.cfg.ClientSecret, secret) {
		return "", false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.cfg.Now()
	maps.DeleteFunc(a.tokens, func(_ string, expiry time.Time) bool { return now.After(expiry) })
	token = "simulated-" + uuid.NewString()
	a.tokens[token] = now.Add(a.cfg.TokenLifetime)
	a.counts.TokensIssued++
	return token, true
}

func accepts(configured, given string) bool {
	return configured == "" || subtle.ConstantTimeCompare([]byte(configured), []byte(given)) == 1
}

// validToken reports whether the token was issued and has neither expired nor been revoked.
func (a *account) validToken(token string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	expiry, known := a.tokens[token]
	return known && a.cfg.Now().Before(expiry)
}

// countFault counts an unsuccessful answer by its reason.
func (a *account) countFault(reason string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.counts.Faults[reason]++
}

// reception holds what is decided when a call arrives.
type reception struct {
	latency    time.Duration
	outage     *Fault
	retryAfter time.Duration   // 0: within the rate limit
	release    <-chan struct{} // closed when the call may continue if it hangs
}

// begin counts an arriving call. The caller calls end when it has answered.
func (a *account) begin(at time.Time, id string) reception {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.inFlight++
	a.counts.LinkCalls++
	a.calls.add(at, id)
	r := reception{latency: time.Duration(a.script.Latency), outage: a.script.Outage, release: a.released}
	if j := int64(a.script.Jitter); j > 0 {
		r.latency += time.Duration(a.random(id, a.counts.LinkCalls).Int64N(2*j+1) - j)
	}
	if a.limiter != nil && r.outage == nil && !a.limiter.AllowN(at, 1) {
		r.retryAfter = time.Duration(a.script.RateLimit.RetryAfter)
		if r.retryAfter == 0 {
			missing := 1 - a.limiter.TokensAt(at)
			r.retryAfter = max(time.Duration(missing/a.script.RateLimit.PerSecond*float64(time.Second)), 1)
		}
	}
	return r
}

func (a *account) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.inFlight--
}

// random returns the random source for one call of an application id. It does not depend
// on other calls.
func (a *account) random(id string, call int) *rand.Rand {
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%s\x00%d", id, call)
	return rand.New(rand.NewPCG(a.script.Seed, h.Sum64()))
}

// chooseFault counts a valid call and returns its fault, or nil for none.
func (a *account) chooseFault(id string) *Fault {
	a.mu.Lock()
	defer a.mu.Unlock()
	app := a.application(id)
	app.calls++
	f := a.scriptedFault(id, app)
	if f != nil {
		app.faults++
		a.counts.Faults[f.Name]++
	}
	return f
}

func (a *account) scriptedFault(id string, app *application) *Fault {
	random := a.random(id, int(app.calls))
	for i, r := range a.script.Rules {
		if !matches(r.Match, id) || (r.Times > 0 && int(app.faults) >= r.Times) {
			continue
		}
		if r.Probability == 0 || random.Float64() < r.Probability {
			return &a.script.Rules[i].Fault
		}
	}
	if limit := a.script.MaxFaultsPerID; limit > 0 && int(app.faults) >= limit {
		return nil
	}
	at := random.Float64()
	for i, c := range a.script.Faults {
		if at -= c.Probability; at < 0 {
			return &a.script.Faults[i].Fault
		}
	}
	return nil
}

// matches is like path.Match, except that * and ? also match a slash.
func matches(pattern, id string) bool {
	withoutSlash := strings.NewReplacer("/", "\x00")
	ok, err := path.Match(withoutSlash.Replace(pattern), withoutSlash.Replace(id))
	return ok && err == nil
}

// application returns the record of an application id and creates it if necessary. The
// caller holds the lock.
func (a *account) application(id string) *application {
	app := a.applications[id]
	if app == nil {
		id = strings.Clone(id) // keep no reference to the request body
		app = new(application)
		a.applications[id] = app
		a.ids = append(a.ids, id)
	}
	return app
}

// makeLink makes a link and returns false if there is no credit.
func (a *account) makeLink(id string) (success, bool) {
	link := uuid.New()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.credit != nil {
		if *a.credit == 0 {
			return success{}, false
		}
		*a.credit--
	}
	app := a.application(id)
	if app.first == uuid.Nil {
		app.first = link
	} else {
		if app.more == nil {
			a.counts.SeveralLinks++
		}
		app.more = append(app.more, link)
	}
	a.counts.Links++
	return success{LinkID: link.String(), URL: LinkPrefix + link.String()}, true
}
