// Package diagnosis explains in one sentence why a request has no link yet, from a
// snapshot of the account. It changes nothing.
package diagnosis

import (
	"fmt"
	"strings"
	"time"

	"github.com/kyclink/kyclink/internal/account"
	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/tasks"
)

// Snapshot is the state that a diagnosis is made from.
type Snapshot struct {
	Account string
	Workers int // live ones
	Gate    admission.GateStatus
	Rate    admission.RateStatus
	Backlog account.Backlog
	// Link is the request to explain; nil for the account as a whole.
	Link *tasks.Link
	// RetryAt is when the request is retried after a fault; zero if it may be called now.
	RetryAt time.Time
	// Batch is the batch to explain, or that of Link; nil if there is none.
	Batch *batch.Batch
}

// Why returns the first reason that applies, and what to do if a person must act: one
// sentence without a capital letter and a full stop. It is empty if nothing prevents
// the link, or if the request has ended.
func (s Snapshot) Why() string {
	if s.Link != nil && s.Link.Status.Ended() {
		return ""
	}
	for _, reason := range []func() string{s.held, s.calling, s.noWorker, s.pausedBatch, s.gate, s.retry, s.turn} {
		if text := reason(); text != "" {
			return text
		}
	}
	return ""
}

func (s Snapshot) held() string {
	if s.Link == nil || s.Link.Status != tasks.Held {
		return ""
	}
	return fmt.Sprintf("it is held for an operator%s; kyclink show %s shows what to do", because(s.Link.Reason, s.Link.Message), s.Link.ApplicationID)
}

func (s Snapshot) calling() string {
	if s.Link == nil || s.Link.Status != tasks.Calling || s.Workers == 0 {
		return ""
	}
	return "its call was sent, and FaceKi has not answered yet"
}

func (s Snapshot) noWorker() string {
	if s.Workers > 0 {
		return ""
	}
	return fmt.Sprintf("no worker is running for account %q; start one with kyclink worker", s.Account)
}

// pausedBatch does not apply to requests in the interactive lane.
func (s Snapshot) pausedBatch() string {
	if s.Batch == nil || s.Batch.Status != batch.Paused || s.Link != nil && s.Link.Lane == tasks.Interactive {
		return ""
	}
	if refused := s.Batch.Refused(); refused != "" {
		return fmt.Sprintf("batch %q is paused: %s; correct that, then kyclink batch resume %s continues it", s.Batch.Batch, refused, s.Batch.Batch)
	}
	return fmt.Sprintf("batch %q is paused; kyclink batch resume %s continues it", s.Batch.Batch, s.Batch.Batch)
}

func (s Snapshot) gate() string {
	g := s.Gate
	switch {
	case g.State == "" || g.State == "open":
		return ""
	case g.Reason == "paused":
		return fmt.Sprintf("account %q is paused%s; kyclink account resume continues it", s.Account, since(g.Since))
	case g.State == "ramping":
		return fmt.Sprintf("the gate is open again%s, and the rate is rising to %s", since(g.Since), s.Rate.Limit)
	}
	text := fmt.Sprintf("the gate is %s%s%s", g.State, since(g.Since), because(g.Reason, g.Message))
	if !g.NextProbe.IsZero() {
		text += ", next probe " + moment(g.NextProbe)
	}
	return text
}

func (s Snapshot) retry() string {
	if s.Link == nil || s.RetryAt.IsZero() {
		return ""
	}
	return fmt.Sprintf("attempt %d created no link%s; the next one is due %s", s.Link.Attempts, because(s.Link.Reason, s.Link.Message), moment(s.RetryAt))
}

// turn applies if the backlog takes more than a second at the rate limit.
func (s Snapshot) turn() string {
	lane, waits := "", s.Backlog.Interactive+s.Backlog.Bulk
	if s.Link != nil && s.Link.Lane == tasks.Interactive { // bulk requests do not delay it
		lane, waits = "interactive ", s.Backlog.Interactive
	}
	rate, err := admission.ParseRate(s.Rate.Limit)
	if err != nil {
		return ""
	}
	takes := time.Duration(waits) * rate.Per / time.Duration(rate.N)
	if takes <= time.Second {
		return ""
	}
	return fmt.Sprintf("%d %srequests wait for their turn at %s, which takes about %v", waits, lane, s.Rate.Limit, takes.Round(time.Second))
}

// because returns a reason with its message, in parentheses.
func because(reason, message string) string {
	text := strings.Trim(reason+": "+message, ": ")
	if text == "" {
		return ""
	}
	return " (" + text + ")"
}

func since(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return " since " + moment(t)
}

func moment(t time.Time) string { return t.UTC().Format(time.RFC3339) }
