package diagnosis

import (
	"fmt"
	"time"

	"github.com/kyclink/kyclink/tasks"
)

// Request says why a request has no link: the first condition that is not met.
func Request(s Snapshot, r RequestState) Diagnosis {
	for _, rule := range []func() (Finding, bool){
		r.ended, r.held,
		func() (Finding, bool) { return first(s, []rule{redisFull, redisWriteFails, redisReadOnly}) },
		func() (Finding, bool) { return s.noWorkerFor(r) },
		r.calling,
		r.pausedBatch,
		func() (Finding, bool) { return gateClosed(s) },
		func() (Finding, bool) { return s.retry(r) },
	} {
		if f, ok := rule(); ok {
			return Diagnosis{Finding: f}.with(s.deadline(r))
		}
	}
	return Diagnosis{Finding: s.turn(r)}.with(s.deadline(r))
}

func (r RequestState) ended() (Finding, bool) {
	text := map[tasks.Status]string{
		tasks.Created: "The link was created", tasks.Failed: "The request failed", tasks.Cancelled: "The request was cancelled",
	}[r.Link.Status] + because(reason(r.Link)) + "."
	f := Finding{State: Idle, Code: Ended, Text: text}
	if r.Link.Status == tasks.Failed {
		f.Next = "kyclink failed retry " + word(r.Link.ApplicationID)
	}
	return f, r.Link.Status.Ended()
}

// reason returns the reason of a link with its message.
func reason(l tasks.Link) string {
	if l.Reason == "" || l.Message == "" {
		return l.Reason
	}
	return l.Reason + ": " + l.Message
}

func (r RequestState) held() (Finding, bool) {
	return Finding{
		State: Stuck, Code: Held,
		Text: fmt.Sprintf("The request is held until a person decides%s.", because(reason(r.Link))),
		Next: fmt.Sprintf("kyclink show %[1]s, then kyclink held retry %[1]s or kyclink held drop %[1]s", word(r.Link.ApplicationID)),
	}, r.Link.Status == tasks.Held
}

func (r RequestState) calling() (Finding, bool) {
	return Finding{
		State: Waiting, Code: Calling,
		Text: "The call was sent, and FaceKi has not answered yet.",
	}, r.Link.Status == tasks.Calling
}

func (s Snapshot) noWorkerFor(r RequestState) (Finding, bool) {
	if s.backlog() == 0 { // the request was read after the snapshot
		s.Interactive.Queued = 1
	}
	f, ok := noWorker(s)
	return f, ok && !r.Link.Status.Ended()
}

// pausedBatch does not apply to requests in the interactive lane.
func (r RequestState) pausedBatch() (Finding, bool) {
	if r.Batch == nil || r.Link.Lane == tasks.Interactive {
		return Finding{}, false
	}
	return pausedBatch(*r.Batch)
}

func (s Snapshot) retry(r RequestState) (Finding, bool) {
	return Finding{
		State: Waiting, Code: RetryScheduled, ClearsAt: r.RetryAt,
		Text: fmt.Sprintf("Attempt %d created no link%s%s.", r.Link.Attempts, because(reason(r.Link)), s.at("the next attempt is due", r.RetryAt)),
	}, r.RetryAt.After(s.At)
}

// turn applies to a request that is called as soon as those ahead of it have been.
func (s Snapshot) turn(r RequestState) Finding {
	takes := s.takes(r.Ahead + 1)
	f := Finding{State: Waiting, Code: InQueue, Text: "The request is about to be called."}
	if f2, ok := ramping(s); ok && takes > time.Second {
		f2.State = Waiting
		return f2
	}
	if takes > time.Second {
		f.ClearsAt = s.At.Add(takes).Truncate(time.Second)
		f.Text = fmt.Sprintf("%s of the %s lane come first at the allowed rate of %s, which takes %s at most.", count(r.Ahead, "request"), r.Link.Lane, s.Rate.Limit, about(takes))
	}
	return f
}

// deadline reports that the request fails at its not_after.
func (s Snapshot) deadline(r RequestState) []Finding {
	if r.NotAfter.IsZero() || r.Link.Status.Ended() {
		return nil
	}
	return []Finding{{
		State: Stuck, Code: DeadlineNear, ClearsAt: r.NotAfter,
		Text: fmt.Sprintf("Without a link the request fails at %s (its not_after).", s.clock(r.NotAfter)),
	}}
}
