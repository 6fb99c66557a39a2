package console

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/operator"
	"github.com/kyclink/kyclink/tasks"
)

// step is something that happened to a request.
type step struct {
	At          time.Time
	Kind        string // a status, "accepted", "call", "event" or "delivered", for the symbol
	Title, Text string
	Note        string // such as the reason's word
}

// mostSteps and mostDeliveries are how much of a long history the page of a request shows.
const (
	mostSteps      = 60
	mostDeliveries = 20
)

// timeline returns what is known to have happened, in order.
func (d requestData) timeline() []step {
	var steps []step
	for _, g := range slices.Backward(d.Generations) {
		steps = append(steps, step{At: g.AcceptedAt, Kind: "accepted", Title: fmt.Sprintf("Generation %d was accepted", g.Generation)})
		if g.Status.Ended() {
			steps = append(steps, ended(g, fmt.Sprintf("Generation %d: ", g.Generation)))
		}
	}
	steps = append(steps, step{At: d.AcceptedAt, Kind: "accepted", Title: fmt.Sprintf("Accepted in the %s lane", d.Lane), Note: inBatch(d.Batch)})
	for _, c := range d.Calls {
		steps = append(steps, callStep(c))
	}
	for _, r := range d.Runs {
		steps = append(steps, runStep(r))
	}
	if d.Status.Ended() {
		steps = append(steps, ended(d.Link.Link, ""))
	}
	for _, delivery := range d.Deliveries {
		steps = append(steps, deliverySteps(delivery)...)
	}
	slices.SortStableFunc(steps, func(a, b step) int { return a.At.Compare(b.At) })
	for i := len(steps) - 1; i > 0; i-- { // an end repeats the answer of its attempt
		if steps[i-1].Kind == "call" && steps[i].Text == steps[i-1].Text {
			steps[i].Text = ""
		}
	}
	return steps
}

func inBatch(name string) string {
	if name == "" {
		return ""
	}
	return "batch " + name
}

func ended(l tasks.Link, before string) step {
	s := step{At: l.EndedAt, Kind: string(l.Status), Note: l.Reason, Text: l.Message}
	switch l.Status { //nolint:exhaustive // the others are no ends
	case tasks.Created:
		s.Title = "The link was created"
		if l.Expired {
			s.Text = "It has expired."
		}
	case tasks.Failed:
		s.Title = "The request failed"
	case tasks.Cancelled:
		s.Title = "The request was cancelled"
	}
	if before != "" {
		s.Title = before + strings.ToLower(s.Title[:1]) + s.Title[1:]
	}
	return s
}

func callStep(c operator.Call) step {
	s := step{At: c.At, Kind: "call", Note: c.Reason, Text: c.Message}
	switch c.Outcome {
	case fault.LabelCreated:
		s.Title = "link created"
	case fault.NoLink.Label():
		s.Title = "no link"
	default:
		s.Title = "a link may have been created"
	}
	s.Title = fmt.Sprintf("Attempt %d: %s", c.Attempt, s.Title)
	if took := c.Duration(); took != "" {
		s.Note = strings.TrimSpace("after " + took + " " + s.Note)
	}
	return s
}

func runStep(r operator.Run) step {
	s := step{At: r.EndedAt, Kind: r.Status, Note: r.Reason, Text: r.Message}
	s.Title = fmt.Sprintf("Run %d ended: %s", r.Run, r.Status)
	if r.LateLink {
		s.Title = fmt.Sprintf("A link of run %d arrived after its end", r.Run)
	}
	return s
}

func deliverySteps(d operator.Delivery) []step {
	steps := []step{{At: d.CreatedAt, Kind: "event", Title: "Event " + d.Type, Text: "Delivered to " + d.Host + " as a callback."}}
	if d.Status != "delivered" {
		steps[0].Text = "To be delivered to " + d.Host + " as a callback."
	}
	attempts := counted(d.Attempts, "attempt", "attempts")
	switch {
	case !d.DeliveredAt.IsZero():
		return append(steps, step{At: d.DeliveredAt, Kind: "delivered", Title: "Callback accepted by " + d.Host, Note: attempts})
	case !d.GivenUpAt.IsZero():
		return append(steps, step{At: d.GivenUpAt, Kind: "failed", Title: "Callback given up", Note: attempts, Text: answerText(d)})
	case d.LastAnswer != nil:
		return append(steps, step{At: d.LastAnswer.At, Kind: "held", Title: "Callback not accepted by " + d.Host, Note: attempts, Text: answerText(d)})
	}
	return steps
}

func answerText(d operator.Delivery) string {
	var parts []string
	if a := d.LastAnswer; a != nil {
		parts = append(parts, a.Message)
	}
	if !d.NextAttempt.IsZero() {
		parts = append(parts, "The next attempt is at "+d.NextAttempt.UTC().Format("2006-01-02 15:04:05 UTC")+".")
	}
	return strings.Join(parts, " ")
}
