package activity

import (
	"slices"
	"time"

	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/fault"
)

// shortest is the shortest time between two periods of the same reason. Throttling can close
// the gate every few seconds.
const shortest = 15 * time.Second

// Period is a time in which the gate was closed, or credentials were refused.
type Period struct {
	Reason fault.Reason `json:"reason"`
	From   time.Time    `json:"from"` // not before the hour
	To     time.Time    `json:"to"`   // the present if it has not ended
	// Times is how often the gate closed, if it was open for less than 15 s in between.
	Times int `json:"times"`
	// Closed is how long it was closed.
	Closed time.Duration `json:"-"`
	// Lasts says that the period has not ended.
	Lasts bool `json:"lasts,omitempty"`
}

// closedPeriods returns the periods of an hour, by the changes of the gate, the oldest first.
func closedPeriods(changes []admission.HistoryEntry, h Hour) []Period {
	var all []Period
	var gate *Period // since when the gate is closed
	refused := 0     // credentials
	var refusal *Period
	end := func(p *Period, at time.Time) {
		if p != nil {
			p.To = at
			all = append(all, *p)
		}
	}
	for _, c := range changes {
		closes, reason := c.State == "closed", fault.Reason(c.Reason)
		switch {
		case reason == fault.Refused && closes:
			if refused++; refused == 1 {
				refusal = &Period{Reason: reason, From: c.At}
			}
		case reason == fault.Refused:
			if refused = max(0, refused-1); refused == 0 {
				end(refusal, c.At)
				refusal = nil
			}
		default:
			end(gate, c.At)
			gate = nil
			if closes {
				gate = &Period{Reason: reason, From: c.At}
			}
		}
	}
	for _, p := range []*Period{gate, refusal} {
		if p != nil {
			p.Lasts = true
			end(p, h.At)
		}
	}
	return joined(h.within(all))
}

// within limits periods to the hour. Refused credentials whose process has left are never
// accepted: their period ends with the next minute in which links were created.
func (h Hour) within(all []Period) []Period {
	begins := h.Minutes[0].At
	var within []Period
	for _, p := range all {
		if p.Reason == fault.Refused {
			next := p.From.Truncate(time.Minute).Add(time.Minute)
			for _, m := range h.Minutes {
				if m.Created > 0 && !m.At.Before(next) && m.At.Before(p.To) {
					p.To, p.Lasts = m.At, false
					break
				}
			}
		}
		if p.From.Before(begins) {
			p.From = begins
		}
		if p.To.After(h.At) { // Redis' clock went back
			p.To = h.At
		}
		if p.From.Before(p.To) {
			within = append(within, p)
		}
	}
	slices.SortStableFunc(within, func(a, b Period) int { return a.From.Compare(b.From) })
	return within
}

// joined joins periods of the same reason that follow each other closely.
func joined(all []Period) []Period {
	var periods []Period
	latest := map[fault.Reason]int{} // index in periods
	for _, p := range all {
		p.Times, p.Closed = 1, p.To.Sub(p.From)
		i, ok := latest[p.Reason]
		if ok && p.From.Sub(periods[i].To) < shortest {
			periods[i].To, periods[i].Lasts = p.To, p.Lasts
			periods[i].Times++
			periods[i].Closed += p.Closed
			continue
		}
		latest[p.Reason] = len(periods)
		periods = append(periods, p)
	}
	return periods
}
