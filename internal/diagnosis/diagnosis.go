// Package diagnosis says in one sentence why a link does not come: it makes the
// sentence from a snapshot of the account, and changes nothing.
package diagnosis

import (
	"fmt"
	"strings"
	"time"

	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/ledger"
	"github.com/kyclink/kyclink/tasks"
)

// Snapshot is what the sentence is made from.
type Snapshot struct {
	Account string
	Workers int // that are alive
	Gate    admission.GateStatus
	Rate    admission.RateStatus
	Backlog ledger.Backlog
	// Link is the request that is asked about; nil: the account as a whole.
	Link *tasks.Link
	// RetryAt is when the request may be called again after a fault; zero where that
	// is now, or where it had none.
	RetryAt time.Time
	// Batch is the batch that is asked about, or that of Link; nil: none.
	Batch *ledger.Batch
}

// Why gives the first thing that stands in the way, and what to do about it where a
// person must act: one sentence without a capital and a full stop. It is empty
// where nothing is in the way, or the request has ended.
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
	return fmt.Sprintf("it is held for a person%s; kyclink show %s says what can be done", because(s.Link.Reason, s.Link.Message), s.Link.ApplicationID)
}

func (s Snapshot) calling() string {
	if s.Link == nil || s.Link.Status != tasks.Calling || s.Workers == 0 {
		return ""
	}
	return "FaceKi is being called for it, and has not answered yet"
}

func (s Snapshot) noWorker() string {
	if s.Workers > 0 {
		return ""
	}
	return fmt.Sprintf("no worker is running for account %q; start one with kyclink worker", s.Account)
}

// pausedBatch does not concern who asks in the interactive lane.
func (s Snapshot) pausedBatch() string {
	if s.Batch == nil || s.Batch.Status != ledger.BatchPaused || s.Link != nil && s.Link.Lane == tasks.Interactive {
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
	return fmt.Sprintf("attempt %d brought no link%s; the next one is due %s", s.Link.Attempts, because(s.Link.Reason, s.Link.Message), moment(s.RetryAt))
}

// turn is said where the backlog takes the rate more than a second.
func (s Snapshot) turn() string {
	lane, waits := "", s.Backlog.Interactive+s.Backlog.Bulk
	if s.Link != nil && s.Link.Lane == tasks.Interactive { // which does not wait for bulk
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

// because is a reason with its message, to follow what it explains.
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
