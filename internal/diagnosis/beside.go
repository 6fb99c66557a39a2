package diagnosis

import (
	"fmt"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/kyclink/kyclink/internal/delivery"
	"github.com/kyclink/kyclink/internal/forecast"
)

// besides are situations that keep some people from their links, while others get theirs.
var besides = []rule{
	somePaused, held, callbacksGivenUp, resultsUnread, resultsNearCap, quarantined,
	callbacksRetrying, redisMemory, failedRequests, intakeRejects,
}

// beside returns the findings of all besides that apply.
func (s Snapshot) beside() (found []Finding) {
	for _, r := range besides {
		if f, ok := r(s); ok {
			found = append(found, f)
		}
	}
	return found
}

func somePaused(s Snapshot) (Finding, bool) { return s.paused() }

func held(s Snapshot) (Finding, bool) {
	verb := "are"
	if s.Held == 1 {
		verb = "is"
	}
	return Finding{
		State: Stuck, Code: Held,
		Text: fmt.Sprintf("%s %s held, because a link may exist that nobody knows; a person must decide.", count(s.Held, "request"), verb),
		Next: "kyclink held list",
	}, s.Held > 0
}

func callbacksGivenUp(s Snapshot) (Finding, bool) {
	return Finding{
		State: Stuck, Code: CallbacksGivenUp,
		Text: fmt.Sprintf("Receivers accepted too few callbacks: %s given up.", were(s.Deliveries.GivenUp, "delivery", "deliveries")),
		Next: "kyclink callbacks list",
	}, s.Deliveries.GivenUp > 0
}

func callbacksRetrying(s Snapshot) (Finding, bool) {
	where := "A receiver"
	if s.Deliveries.Host != "" {
		where = "The receiver " + s.Deliveries.Host
	}
	reply := ""
	if s.Deliveries.Message != "" {
		reply = " (" + s.Deliveries.Message + ")"
	}
	return Finding{
		State: Waiting, Code: CallbacksRetrying, ClearsAt: s.Deliveries.NextAt,
		Text: fmt.Sprintf("%s does not accept callbacks%s: %s retried%s.", where, reply,
			are(s.Deliveries.Retrying, "delivery", "deliveries"), s.at("the next attempt is", s.Deliveries.NextAt)),
		Next: "if that persists, check the receiver; kyclink callbacks list shows the deliveries",
	}, s.Deliveries.Retrying > 0
}

// Times after which unread results are a finding: one that waits, and one that needs a
// person because no consumer has been heard of.
const (
	unreadWaits = 10 * time.Second
	unreadStuck = 5 * time.Minute
)

func resultsUnread(s Snapshot) (Finding, bool) {
	g, ok := s.Results.Slowest()
	behind, idle := time.Duration(g.Behind*float64(time.Second)).Round(time.Second), time.Duration(g.Idle*float64(time.Second)).Round(time.Second)
	f := Finding{
		State: Waiting, Code: ResultsUnread,
		Text: fmt.Sprintf("Group %q reads the results more slowly than links are created: %s to acknowledge, the oldest for %s.", g.Group, count(g.Unacknowledged(), "event"), forecast.Short(behind)),
		Next: "kyclink results lag",
	}
	if idle >= unreadWaits {
		f.Text = fmt.Sprintf("No consumer of group %q has read the results for %s: %s to acknowledge, the oldest for %s.", g.Group, forecast.Short(idle), count(g.Unacknowledged(), "event"), forecast.Short(behind))
		f.Next = "start the consumer of that group; kyclink results groups shows all groups"
		if g.Group == delivery.Group { // its consumers are workers
			f.Text = fmt.Sprintf("No worker with KYCLINK_CALLBACK_HOSTS has read the results for %s: %s to make callbacks of, the oldest for %s.", forecast.Short(idle), count(g.Unacknowledged(), "event"), forecast.Short(behind))
			f.Next = fmt.Sprintf("start the workers with KYCLINK_CALLBACK_HOSTS; if no request has a callback any more, redis-cli XGROUP DESTROY '{kyclink:%s}:results' %s", s.Account, g.Group)
		}
		if behind >= unreadStuck {
			f.State = Stuck
		}
	}
	return f, ok && g.Unacknowledged() > 0 && behind >= unreadWaits
}

// nearCap is the share of the cap of the results stream from which that is a finding.
const nearCap = 0.9

func resultsNearCap(s Snapshot) (Finding, bool) {
	r := s.Results
	return Finding{
		State: Stuck, Code: ResultsNearCap,
		Text: fmt.Sprintf("The results stream has %s of at most %s: at the limit the oldest are removed, read or not.", count(r.Length, "event"), humanize.Comma(int64(r.Cap))),
		Next: "let every group read and acknowledge, or raise KYCLINK_RESULTS_CAP",
	}, r.Cap > 0 && float64(r.Length) >= nearCap*float64(r.Cap)
}

func quarantined(s Snapshot) (Finding, bool) {
	return Finding{
		State: Stuck, Code: Quarantined,
		Text: fmt.Sprintf("No worker could decode %s kept in quarantine.", are(s.Quarantined, "task or record, which", "tasks or records, which")),
		Next: "kyclink failed list --quarantined",
	}, s.Quarantined > 0
}

func redisMemory(s Snapshot) (Finding, bool) {
	then, next := "nothing is accepted", "raise Redis' maxmemory, or shorten KYCLINK_RETENTION"
	if s.Redis.Evicts {
		then, next = "it deletes requests and links", "set Redis' maxmemory-policy to noeviction, and raise its maxmemory or shorten KYCLINK_RETENTION"
	}
	return Finding{
		State: Flowing, Code: RedisMemory,
		Text: fmt.Sprintf("Redis uses %s of memory; when it is full, %s.", s.Redis.usage(), then),
		Next: next,
	}, s.Redis.share() >= nearlyFull && !(s.Redis.share() >= full && !s.Redis.Evicts)
}

func failedRequests(s Snapshot) (Finding, bool) {
	return Finding{
		State: Flowing, Code: FailedRequests,
		Text: fmt.Sprintf("%s neither retried nor dropped.", were(s.Failed, "failed request", "failed requests")),
		Next: "kyclink failed list",
	}, s.Failed > 0
}

func intakeRejects(s Snapshot) (Finding, bool) {
	return Finding{
		State: Flowing, Code: IntakeRejects,
		Text: fmt.Sprintf("The intake stream had invalid entries: %s kept in the stream of rejects.", are(s.Intake.Rejects, "entry", "entries")),
		Next: "kyclink account status",
	}, s.Intake.Rejects > 0
}
