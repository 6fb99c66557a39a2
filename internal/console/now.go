package console

import (
	"bytes"
	"context"
	"net/http"
	"time"

	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/diagnosis"
)

// nowData is what the page Now shows.
type nowData struct {
	diagnosis.Snapshot
	Diagnosis diagnosis.Diagnosis
	Allowed   float64 // calls per second
	Lanes     []laneData
	// Deciding are the lists that wait for a person.
	Deciding []listData
	// Hour is nil in an update: browsers get the chart when it changes.
	Hour *chart
}

type laneData struct {
	Name, About string
	diagnosis.Lane
	Wait time.Duration // of the oldest request; 0 if none waits
	// Empty is how long the backlog takes at the present speed; 0 if that is not known, as
	// while calls are stopped.
	Empty time.Duration
}

// listData is a number of things that wait for a person.
type listData struct {
	Name, About, Href string
	Number            int
}

func newNow(s diagnosis.Snapshot) nowData {
	d := nowData{Snapshot: s, Diagnosis: diagnosis.Account(s), Allowed: perSecond(s.Rate.Limit)}
	ahead := 0
	for _, l := range []laneData{
		{Name: "Interactive", About: "a person is waiting", Lane: s.Interactive},
		{Name: "Bulk", About: "batches and imports", Lane: s.Bulk},
	} {
		ahead += l.Backlog() // interactive requests are called first
		if !l.Oldest.IsZero() && l.Backlog() > 0 {
			l.Wait = max(0, s.At.Sub(l.Oldest))
		}
		if s.Rate.Used > 0 && l.Backlog() > 0 && d.Diagnosis.State == diagnosis.Flowing {
			l.Empty = time.Duration(float64(ahead) / s.Rate.Used * float64(time.Second))
		}
		d.Lanes = append(d.Lanes, l)
	}
	d.Deciding = []listData{
		{"Paused batches", "resume or cancel each", "/batches", s.Paused.Batches},
		{"Held requests", "decide about each", "/held", s.Held},
		{"Failed requests", "can be retried", "/failed", s.Failed},
		{"Callbacks given up", "can be retried", "/callbacks", s.Deliveries.GivenUp},
		{"Rejected intake entries", "in the stream of rejects", "", s.Intake.Rejects},
		{"Unreadable tasks", "written by another version, or damaged", "", s.Quarantined},
	}
	return d
}

// perSecond returns a rate limit in calls per second; 0 if it cannot be read.
func perSecond(limit string) float64 {
	rate, err := admission.ParseRate(limit)
	if err != nil {
		return 0
	}
	return float64(rate.N) / rate.Per.Seconds()
}

// Nobody reports whether nothing waits for a person.
func (d nowData) Nobody() bool {
	for _, l := range d.Deciding {
		if l.Number > 0 {
			return false
		}
	}
	return true
}

// MemoryShare is how much of Redis' memory is used, from 0 to 1; 0 without a limit.
func (d nowData) MemoryShare() float64 {
	if d.Redis.Max == 0 {
		return 0
	}
	return float64(d.Redis.Used) / float64(d.Redis.Max)
}

func (c *Console) nowPage(ctx context.Context, v *visit) error {
	s, err := c.snapshots.Snapshot(ctx)
	if err != nil {
		return err
	}
	d := newNow(s)
	hour, err := c.hour.latest(ctx)
	if err != nil {
		return err
	}
	d.Hour = &hour
	return c.show(v, http.StatusOK, "now", "Now", d)
}

// renderNow renders what is live on the page, apart from the chart, which it keeps up to
// date. It is the same for all browsers.
func (c *Console) renderNow(ctx context.Context) ([]byte, error) {
	if _, err := c.hour.latest(ctx); err != nil {
		return nil, err
	}
	s, err := c.snapshots.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	err = c.templates["now"].ExecuteTemplate(&text, "now", newNow(s))
	return text.Bytes(), err
}
