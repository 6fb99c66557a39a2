package diagnosis

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/forecast"
)

// blockers are the situations in which no link is created, or hardly any.
var blockers = []rule{redisFull, redisWriteFails, redisReadOnly, noWorker, gateClosed, silent, allPaused, retriesOnly, noProgress}

// Account diagnoses the account as a whole.
func Account(s Snapshot) Diagnosis {
	if f, ok := first(s, blockers); ok {
		others := s.beside()
		if gate, closed := gateClosed(s); closed && f.Code == NoWorker { // a started worker would meet it
			others = append([]Finding{gate}, others...)
		}
		return f.before(others)
	}
	if s.backlog() > 0 || s.Calls > 0 {
		f, _ := first(s, []rule{ramping, concurrencyLimited, rateLimited, created})
		return Diagnosis{Finding: f}.with(s.beside())
	}
	others := s.beside()
	for _, state := range []State{Stuck, Waiting} {
		for _, f := range others {
			if f.State == state {
				return Diagnosis{Finding: f}.with(others)
			}
		}
	}
	f, _ := nothingToDo(s)
	return Diagnosis{Finding: f}.with(others)
}

// before returns the diagnosis of a situation in which no link is created, with the findings
// beside it. Waiting means that nobody has to act: if another finding needs a person, that
// one comes first.
func (f Finding) before(others []Finding) Diagnosis {
	stuck := slices.IndexFunc(others, func(o Finding) bool { return o.State == Stuck })
	if f.State != Waiting || stuck < 0 {
		return Diagnosis{Finding: f}.with(others)
	}
	return Diagnosis{Finding: others[stuck], Findings: []Finding{f}}.with(others)
}

func (s Snapshot) backlog() int { return s.Interactive.Backlog() + s.Bulk.Backlog() }

// active is the backlog without the requests that wait for a paused batch.
func (s Snapshot) active() int {
	return s.Interactive.Backlog() + max(0, s.Bulk.Backlog()-s.Paused.open())
}

// wait returns "; 12 requests wait", or nothing if none does.
func (s Snapshot) wait() string {
	switch n := s.backlog(); n {
	case 0:
		return ""
	case 1:
		return "; 1 request waits"
	default:
		return "; " + count(n, "request") + " wait"
	}
}

// nearlyFull is the share of Redis' memory from which it is reported, and full that from
// which Redis counts as full: it refuses a write that would exceed its limit.
const (
	nearlyFull = 0.85
	full       = 0.995
)

func (r Redis) share() float64 {
	if r.Max == 0 {
		return 0
	}
	return float64(r.Used) / float64(r.Max)
}

func (r Redis) usage() string {
	return fmt.Sprintf("%s of %s", humanize.IBytes(uint64(r.Used)), humanize.IBytes(uint64(r.Max))) //nolint:gosec // sizes are not negative
}

func redisFull(s Snapshot) (Finding, bool) {
	return Finding{
		State: Stuck, Code: RedisFull,
		Text: fmt.Sprintf("Redis is full (%s used): it refuses writes, so that no request is accepted and no call is made%s.", s.Redis.usage(), s.wait()),
		Next: "raise Redis' maxmemory; calls continue by themselves then",
	}, s.Redis.share() >= full && !s.Redis.Evicts
}

// acceptedWrite is how recent a heartbeat must be to prove that Redis accepts writes: a
// server can be configured to accept them although it cannot write its snapshot to the disk.
const acceptedWrite = 5 * time.Second

func redisWriteFails(s Snapshot) (Finding, bool) {
	return Finding{
		State: Stuck, Code: RedisWriteFails,
		Text: fmt.Sprintf("Redis cannot write to its disk (%s) and refuses changes%s.", s.Redis.WriteError, s.wait()),
		Next: "look at Redis' log and free space on its disk",
	}, s.Redis.WriteError != "" && s.At.Sub(s.LastHeartbeat).Abs() > acceptedWrite
}

func redisReadOnly(s Snapshot) (Finding, bool) {
	return Finding{
		State: Stuck, Code: RedisReadOnly,
		Text: "Redis is a read-only replica, so that no request is accepted and no call is made.",
		Next: "let KYCLINK_REDIS_URL name the primary, or use KYCLINK_REDIS_MODE=sentinel",
	}, s.Redis.Replica
}

func noWorker(s Snapshot) (Finding, bool) {
	seen := ""
	if !s.LastHeartbeat.IsZero() && !s.LastHeartbeat.After(s.At) { // after it: the clock went back
		seen = "; one that did not stop properly was last heard of " + s.ago(s.LastHeartbeat) + " ago"
	}
	what := s.wait()
	if s.backlog() == 0 {
		if s.Intake.Entries > 0 {
			what = "; intake entries to read: " + humanize.Comma(int64(s.Intake.Entries))
		} else if s.Deliveries.Pending > 0 {
			what = "; callbacks to send: " + humanize.Comma(int64(s.Deliveries.Pending))
		}
	}
	return Finding{
		State: Stuck, Code: NoWorker,
		Text: fmt.Sprintf("No worker is running for account %q%s%s.", s.Account, what, seen),
		Next: "start one: kyclink worker",
	}, s.Workers == 0 && what != ""
}

// messageAge is how long before the closure of the gate the fault happened that caused it.
const messageAge = 10 * time.Second

// gateClosed applies while the gate is closed or a probe tests it.
func gateClosed(s Snapshot) (Finding, bool) {
	if s.Gate.State != "closed" && s.Gate.State != "probing" {
		return Finding{}, false
	}
	since, wait, message := s.since(s.Gate.Since), s.wait(), s.Gate.Message
	if !s.Gate.MessageAt.IsZero() && s.Gate.MessageAt.Before(s.Gate.Since.Add(-messageAge)) { // of an earlier closure
		message = ""
	}
	why := because(message)
	probe := s.probe("the next probe is")
	f := Finding{State: Stuck}
	if s.Workers > 0 && s.Gate.NextProbe.After(s.At) {
		f.ClearsAt = s.Gate.NextProbe
	}
	switch fault.Reason(s.Gate.Reason) {
	case fault.Paused:
		f.Code, f.Text = AccountPaused, fmt.Sprintf("An operator paused the account%s%s.", s.pause(), wait)
		f.Next = "kyclink account resume"
	case fault.Refused: // the message says what is refused, which may not be the credentials
		cause := cmp.Or(message, "FaceKi refuses the account's credentials")
		f.Code, f.Text = CredentialsRefused, fmt.Sprintf("%s%s%s%s.", cause, since, probe, wait)
		f.Next = "check FACEKI_CLIENT_ID, FACEKI_CLIENT_SECRET and FACEKI_BASE_URL, and start the workers with the right ones"
	case fault.NoCredit:
		f.Code, f.Text = NoCredit, fmt.Sprintf("The FaceKi account has had no credit left%s%s%s%s.", since, why, probe, wait)
		f.Next = "add credit at FaceKi; calls continue by themselves then"
	case fault.LimitReached:
		f.Code, f.Text = LimitReached, fmt.Sprintf("The FaceKi account has been at its limit of links%s%s%s%s.", since, why, probe, wait)
		f.Next = "ask FaceKi for a higher limit; calls continue by themselves then"
	case fault.Throttled:
		f.State, f.Code = Waiting, FaceKiThrottles
		f.Text = fmt.Sprintf("FaceKi has throttled the account (429)%s%s%s%s.", since, why, s.probe("calls continue"), wait)
	case fault.Outage:
		f.State, f.Code = Waiting, FaceKiOutage
		f.Text = fmt.Sprintf("FaceKi has been failing%s%s; only probes are sent%s%s.", since, why, probe, wait)
	default:
		f.State, f.Code = Waiting, GateClosed
		f.Text = fmt.Sprintf("The gate has been closed%s (%s)%s%s.", since, s.Gate.Reason, probe, wait)
	}
	if s.Workers == 0 && f.Next == "" {
		f.Next = "start a worker: kyclink worker"
	}
	return f, true
}

// silent applies while FaceKi answers no call and the gate is still open: it closes after
// some calls, or when they have timed out.
func silent(s Snapshot) (Finding, bool) {
	return Finding{
		State: Waiting, Code: FaceKiOutage,
		Text: fmt.Sprintf("FaceKi has not answered for %s; %s in flight%s.", forecast.Short(s.Silence), are(s.Calls, "call", "calls"), s.wait()),
	}, s.Silence > 0
}

// probe says when the closed gate is tested, or what is missing for that.
func (s Snapshot) probe(at string) string {
	switch next := s.Gate.NextProbe; {
	case next.IsZero() && s.Gate.State != "probing":
		return ""
	case s.Workers == 0:
		return "; no worker is running that sends a probe"
	case s.Gate.State == "probing":
		return "; a probe is in flight"
	case next.After(s.At):
		return s.at(at, next)
	case s.backlog() == 0:
		return "; the next request is the probe"
	}
	return "; a probe is due"
}

// pause says when an operator paused the account, who, and why.
func (s Snapshot) pause() (text string) {
	if !s.Gate.Since.IsZero() {
		text = " at " + s.clock(s.Gate.Since)
	}
	who := slices.DeleteFunc([]string{s.Gate.PausedBy, s.Gate.PauseReason}, func(part string) bool { return part == "" })
	if len(who) > 0 {
		text += " (" + strings.Join(who, ": ") + ")"
	}
	return text
}

// allPaused applies if every request that waits belongs to a paused batch. If some of the
// paused batches were not read, it is concluded from workers that feed and call nothing.
func allPaused(s Snapshot) (Finding, bool) {
	f, ok := s.paused()
	all := s.Paused.open() >= s.Bulk.Backlog() || s.Paused.unread() > 0 && s.Bulk.Queued == 0 && s.Rate.Used == 0
	return f, ok && s.Interactive.Backlog() == 0 && s.Calls == 0 && all
}

// paused names the paused batch of which the most requests wait.
func (s Snapshot) paused() (Finding, bool) {
	b, waiting, unread := s.Paused.largest(), s.Paused.open(), s.Paused.unread()
	f := Finding{State: Stuck, Code: BatchPaused, Next: "kyclink batch resume " + quoted(b.Batch)}
	if b.RefusedMessage() != "" {
		f.Code = RowsRefused
		f.Text = fmt.Sprintf("Batch %q was paused because %s", b.Batch, b.RefusedMessage())
		f.Next = "correct the setting or the rows, then kyclink batch resume " + quoted(b.Batch)
	} else {
		f.Text = fmt.Sprintf("Batch %q is paused by an operator", b.Batch)
	}
	if unread > 0 { // which batch is the largest is not known, nor how many requests wait
		return Finding{
			State: Stuck, Code: BatchPaused, Text: are(s.Paused.Batches, "batch", "batches") + " paused.",
			Next: "kyclink batch list, then kyclink batch resume NAME",
		}, waiting > 0 || s.Bulk.Backlog() > 0
	}
	if s.Paused.Batches > 1 {
		f.Text = fmt.Sprintf("%s batches are paused. The largest: %s", humanize.Comma(int64(s.Paused.Batches)), f.Text)
	}
	f.Text += Snapshot{Bulk: Lane{Waiting: waiting}}.wait() + "."
	return f, waiting > 0
}

// retriesOnly applies if nothing may be called before the next retry is due.
func retriesOnly(s Snapshot) (Finding, bool) {
	next := s.Interactive.NextDue
	if next.IsZero() || !s.Bulk.NextDue.IsZero() && s.Bulk.NextDue.Before(next) {
		next = s.Bulk.NextDue
	}
	waits := s.Interactive.Queued + s.Bulk.Queued
	return Finding{
		State: Waiting, Code: RetryScheduled, ClearsAt: next,
		Text: fmt.Sprintf("%s for a retry after a failed attempt%s.", counted(waits, "request waits", "requests wait"), s.at("the next one is due", next)),
	}, !next.IsZero() && s.Calls == 0 && s.Bulk.Waiting <= s.Paused.open() && s.Interactive.Due+s.Bulk.Due == 0
}

// stalled is how long requests may be due without a call before that is a finding.
const stalled = 15 * time.Second

func noProgress(s Snapshot) (Finding, bool) {
	oldest := s.Interactive.Oldest
	if oldest.IsZero() || !s.Bulk.Oldest.IsZero() && s.Bulk.Oldest.Before(oldest) {
		oldest = s.Bulk.Oldest
	}
	return Finding{
		State: Stuck, Code: NoProgress,
		Text: fmt.Sprintf("%s may be called, the oldest was accepted %s ago, and %s no call.", count(s.Interactive.Due+s.Bulk.Due, "request"), s.ago(oldest), counted(s.Workers, "worker makes", "workers make")),
		Next: "look at the workers' logs, and restart the workers",
	}, s.Gate.State != "ramping" && s.Interactive.Due+s.Bulk.Due > 0 && s.Calls == 0 && s.Rate.Used == 0 && s.takes(1) < stalled && !oldest.IsZero() && s.At.Sub(oldest) > stalled
}

func ramping(s Snapshot) (Finding, bool) {
	return Finding{
		State: Flowing, Code: Ramping,
		Text: fmt.Sprintf("FaceKi works again%s: the rate of calls rises to %s%s.", s.since(s.Gate.Since), s.Rate.Limit, s.wait()),
	}, s.Gate.State == "ramping"
}

// concurrencyLimited applies if there is a backlog and no process waits for a grant, so
// that something else than the rate limits the calls.
func concurrencyLimited(s Snapshot) (Finding, bool) {
	return Finding{
		State: Flowing, Code: ConcurrencyLimited,
		Text: fmt.Sprintf("Calls are made at %.1f/s of the allowed %s: not the rate limits them, but how many calls %s at a time (%s now)%s.",
			s.Rate.Used, s.Rate.Limit, counted(s.Workers, "worker makes", "workers make"), humanize.Comma(int64(s.Calls)), s.wait()),
		Next: "start more workers, or set a higher KYCLINK_CONCURRENCY, which is automatic if it is not set",
	}, s.Asking == 0 && s.Calls > 0 && s.Rate.Used < 0.8*s.perSecond() && s.Interactive.Due+s.Bulk.Due > s.Calls && s.takes(s.active()) > 2*time.Second
}

func rateLimited(s Snapshot) (Finding, bool) {
	takes := s.takes(s.active())
	return Finding{
		State: Flowing, Code: RateLimited, ClearsAt: s.At.Add(takes).Truncate(time.Second),
		Text: fmt.Sprintf("Links are created at the allowed rate of %s; the backlog of %s takes %s.", s.Rate.Limit, count(s.active(), "request"), about(takes)),
	}, takes > time.Second
}

func created(s Snapshot) (Finding, bool) {
	return Finding{State: Flowing, Code: LinksCreated, Text: fmt.Sprintf("Links are created as requests arrive; %s in flight.", count(s.Calls, "call"))}, true
}

func nothingToDo(s Snapshot) (Finding, bool) {
	f := Finding{State: Idle, Code: NothingToDo, Text: "Nothing waits: every accepted request has ended."}
	if s.Workers == 0 {
		f.Text, f.Next = fmt.Sprintf("Nothing waits, and no worker is running for account %q.", s.Account), "before the next request, start a worker: kyclink worker"
	}
	return f, true
}
