package simulator

import (
	"time"

	"github.com/google/uuid"
)

// State is the state of a simulator since its start or its last reset.
type State struct {
	Counts
	InFlight       int  `json:"in_flight"`       // calls being answered
	ApplicationIDs int  `json:"application_ids"` // distinct ids in valid calls
	Credit         *int `json:"credit"`          // remaining links; null: unlimited
}

// Counts holds counters that only increase.
type Counts struct {
	TokenRequests int `json:"token_requests"`
	TokensIssued  int `json:"tokens_issued"`
	LinkCalls     int `json:"link_calls"`
	Links         int `json:"links"`
	// SeveralLinks is the number of application ids with more than one link.
	SeveralLinks int `json:"ids_with_several_links"`
	// Faults counts unsuccessful answers by the name of the fault, or by unauthorized,
	// invalid, rate_limited or no_credit.
	Faults map[string]int `json:"faults"`
	// RedirectsFollowed counts requests that followed a redirect. It should be 0.
	RedirectsFollowed int `json:"redirects_followed"`
}

// Link is one simulated link.
type Link struct {
	LinkID string `json:"link_id"`
	URL    string `json:"url"`
}

// Application holds the calls and links of one application id.
type Application struct {
	ApplicationID string `json:"application_id"`
	Calls         int    `json:"calls"` // valid calls with a valid token
	Faults        int    `json:"faults"`
	Links         []Link `json:"links"`
}

// Applications is one page of application ids, in order of their first call.
type Applications struct {
	Applications []Application `json:"applications"`
	Next         int           `json:"next"` // the after parameter of the next page
	Total        int           `json:"total"`
}

// Call is the arrival of a call that asks for a link, whatever its outcome.
type Call struct {
	Number        int       `json:"number"` // from 1
	At            time.Time `json:"at"`
	ApplicationID string    `json:"application_id"`
}

// Calls is one page of the remembered arrivals, oldest first.
type Calls struct {
	Calls []Call `json:"calls"`
	Next  int    `json:"next"`  // the after parameter of the next page
	Total int    `json:"total"` // all arrivals, including forgotten ones
}

// application is compact, because there may be millions.
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

// callLog is a ring buffer of the latest arrivals.
type callLog struct {
	limit int
	total int
	kept  []arrival // arrival n is at (n-1) % limit
}

type arrival struct {
	at int64 // Unix time in nanoseconds
	id string
}

func (l *callLog) add(at time.Time, id string) {
	a := arrival{at.UnixNano(), id}
	if len(l.kept) < l.limit {
		l.kept = append(l.kept, a)
	} else {
		l.kept[l.total%l.limit] = a
	}
	l.total++
}

func (l *callLog) page(after, limit int) Calls {
	page := Calls{Calls: []Call{}, Total: l.total, Next: max(after, l.total-len(l.kept))}
	for page.Next < l.total && len(page.Calls) < limit {
		a := l.kept[page.Next%l.limit]
		page.Next++
		page.Calls = append(page.Calls, Call{page.Next, time.Unix(0, a.at).UTC(), a.id})
	}
	return page
}
