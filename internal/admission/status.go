package admission

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/request"
)

// Status is the state of an account's admission, as "account status" shows it.
type Status struct {
	Gate    GateStatus           `json:"gate"`
	Rate    RateStatus           `json:"rate"`
	Calls   int                  `json:"calls"` // in flight
	Lines   map[request.Lane]int `json:"lines"` // processes that wait for a token, by lane
	Refused []RefusedStatus      `json:"refused,omitempty"`
	History []HistoryEntry       `json:"history"` // oldest first, the last 50

	// Silence is how long FaceKi has answered no call although one was in flight. It is 0
	// unless that is much longer than usual.
	Silence time.Duration `json:"-"`
}

// GateStatus is the state of the gate: open, closed, probing or ramping.
type GateStatus struct {
	State  string `json:"state"`
	Reason string `json:"reason"` // "" while it is open
	// Since is when the state last changed, or the zero time. While the gate probes, it is
	// when the gate closed.
	Since time.Time `json:"since,omitzero"`
	// NextProbe is when the next call may test the gate.
	NextProbe time.Time `json:"next_probe,omitzero"`
	// Message is the text of the last fault that counted for the gate, and MessageAt its
	// time. Both stay when the gate opens.
	Message   string    `json:"message,omitempty"`
	MessageAt time.Time `json:"message_at,omitzero"`
	// PausedBy and PauseReason say who paused the account and why, as far as it is known.
	PausedBy    string `json:"paused_by,omitempty"`
	PauseReason string `json:"pause_reason,omitempty"`
}

// RateStatus is the rate limit in force.
type RateStatus struct {
	Limit      string  `json:"limit"`
	Burst      int     `json:"burst"`
	Overridden bool    `json:"overridden"` // by an operator
	Used       float64 `json:"used"`       // grants per second, over the last 10 s
}

// RefusedStatus is a credential that FaceKi refuses.
type RefusedStatus struct {
	Credential string    `json:"credential"` // its fingerprint
	Since      time.Time `json:"since"`
	NextProbe  time.Time `json:"next_probe"`
	Message    string    `json:"message,omitempty"` // of the last refusal
	MessageAt  time.Time `json:"message_at,omitzero"`
}

// HistoryEntry is a change of the gate or, with the reason refused, of a credential: closed
// when it was refused, open when it was accepted again.
type HistoryEntry struct {
	At     time.Time `json:"at"`
	State  string    `json:"state"`
	Reason string    `json:"reason,omitempty"`
}

// AnswerWithin is how long a call may take, with the recording of its answer. A call that
// is in flight for longer belongs to a dead process.
const AnswerWithin = 75 * time.Second

// Times of the scripts, in ms.
const (
	answerWithin = float64(AnswerWithin / time.Millisecond)
	rampTime     = 5_000 // from a tenth of the rate to all of it
	waiterTTL    = 250   // how long a waiting process counts after it may get a token
)

// The gate's states, and the reasons that the status names itself.
const (
	open    = "open"
	closed  = "closed"
	probing = "probing" // closed, while a probe is in flight
	ramping = "ramping"

	refused = string(fault.Refused)
	paused  = string(fault.Paused)
)

// usedOver is the number of seconds over which the used rate is averaged. The script has
// another counter for the current second.
const usedOver = 10

// statusHistory is the number of changes in a status.
const statusHistory = 50

// History reads the changes of the last hour, or more, the oldest first. The first one may
// be older than the hour.
func History(ctx context.Context, rdb redis.UniversalClient, keys keyspace.Keys) ([]HistoryEntry, error) {
	lines, err := rdb.LRange(ctx, keys.Tag()+":history", 0, -1).Result()
	if err != nil {
		return nil, fmt.Errorf("read the history of the gate: %w", err)
	}
	return parseHistory(lines)
}

// Read reads the status by Redis' clock, in one round trip and one more for each refused
// credential. It changes nothing.
func Read(ctx context.Context, rdb redis.UniversalClient, keys keyspace.Keys) (Status, error) {
	var clock keyspace.Clock
	var hash *redis.MapStringStringCmd
	var history *redis.StringSliceCmd
	var calls, workers *redis.ZSliceCmd
	lines := map[request.Lane]*redis.ZSliceCmd{}
	_, err := rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		clock = keys.Clock(ctx, pipe)
		hash = pipe.HGetAll(ctx, keys.Tag()+":gate")
		history = pipe.LRange(ctx, keys.Tag()+":history", -statusHistory, -1)
		calls = pipe.ZRangeWithScores(ctx, keys.Tag()+":calls", 0, -1)
		workers = pipe.ZRangeWithScores(ctx, keys.Workers(), 0, -1)
		for _, lane := range []request.Lane{request.Interactive, request.Bulk} {
			lines[lane] = pipe.ZRangeWithScores(ctx, keys.Tag()+":line:"+string(lane), 0, -1)
		}
		return nil
	})
	if err != nil {
		return Status{}, fmt.Errorf("read the gate: %w", err)
	}
	now, err := clock.Time()
	if err != nil {
		return Status{}, err
	}
	f := fields(hash.Val())
	s := Status{Gate: f.gate(now), Rate: f.rate(now), Lines: map[request.Lane]int{}}
	s.Calls = since(calls.Val(), float64(now.UnixMilli())-answerWithin)
	s.Silence = f.silence(now, calls.Val(), workers.Val())
	for lane, line := range lines {
		s.Lines[lane] = since(line.Val(), float64(now.UnixMilli()-waiterTTL))
	}
	if s.History, err = parseHistory(history.Val()); err != nil {
		return Status{}, err
	}
	for credential := range strings.FieldsSeq(f["refused"]) {
		r, err := rdb.HMGet(ctx, keys.Tag()+":refused:"+credential, "since", "next", "message", "message_at").Result()
		if err != nil {
			return Status{}, fmt.Errorf("read the refused credentials: %w", err)
		}
		at, ok := r[0].(string)
		next, _ := r[1].(string)
		message, _ := r[2].(string)
		messageAt, _ := r[3].(string)
		if ok { // otherwise, it has expired: the credential was not used for a day
			s.Refused = append(s.Refused, RefusedStatus{credential, instant(at), instant(next), message, instant(messageAt)})
		}
	}
	if at := s.refusedAll(f["good"]); !at.Since.IsZero() && s.Gate.State == open {
		s.Gate = GateStatus{State: closed, Reason: refused, Since: at.Since, NextProbe: at.NextProbe, Message: at.Message, MessageAt: at.MessageAt}
	}
	return s, nil
}

// refusedAll returns the refusal that stops the account: that of the credential that made
// the last link or, if one was refused since then, the latest.
func (s Status) refusedAll(good string) (stops RefusedStatus) {
	for _, r := range s.Refused {
		if r.Credential == good || good == "" && !r.Since.Before(stops.Since) {
			stops = r
		}
	}
	return stops
}

// since counts the members with a score of at least from.
func since(members []redis.Z, from float64) (n int) {
	for _, m := range members {
		if m.Score >= from {
			n++
		}
	}
	return n
}

// fields are the fields of the gate's hash.
type fields map[string]string

func (f fields) number(name string) float64 {
	n, _ := strconv.ParseFloat(f[name], 64) // absent is 0
	return n
}

func (f fields) gate(now time.Time) GateStatus {
	g := GateStatus{State: open, Reason: f["reason"], Since: instant(f["since"]), Message: f["message"], MessageAt: instant(f["message_at"])}
	if f["state"] != "" {
		g.State = f["state"]
	}
	if g.Reason == paused {
		g.PausedBy, g.PauseReason = f["paused_by"], f["paused_why"]
	}
	ms := float64(now.UnixMilli())
	switch {
	case g.State == ramping && ms >= f.number("opened")+rampTime:
		g.State, g.Since = open, instant(f["opened"]).Add(rampTime*time.Millisecond)
	case g.State == closed && f["prober"] != "" && f.number("by") > ms:
		g.State = probing
	case g.State == closed && g.Reason != paused:
		g.NextProbe = instant(f["next"])
	}
	return g
}

// leastSilence is the shortest silence that a status has. It is longer than that which the
// gate needs, because the status counts a single call as well.
const leastSilence = 5 * time.Second

// silence returns [Status.Silence]. Calls of a process without a heartbeat since then do not
// count, because it may be dead.
func (f fields) silence(now time.Time, calls, workers []redis.Z) time.Duration {
	heartbeats := map[string]float64{}
	for _, w := range workers {
		heartbeats[w.Member.(string)] = w.Score
	}
	ms := float64(now.UnixMilli())
	for _, c := range calls { // the oldest first
		process, _, _ := strings.Cut(c.Member.(string), " ")
		if c.Score < ms-answerWithin || heartbeats[process] < c.Score+float64(leastSilence.Milliseconds()) {
			continue
		}
		silence := time.Duration(ms-max(c.Score, f.number("answered"))) * time.Millisecond
		if silence > max(leastSilence, 4*time.Duration(f.number("usual"))*time.Millisecond) {
			return silence
		}
		return 0
	}
	return 0
}

func (f fields) rate(now time.Time) RateStatus {
	if f["n"] == "" {
		return RateStatus{Limit: "5/s", Burst: 5}
	}
	limit := Rate{int(f.number("n")), time.Duration(f.number("per")) * time.Millisecond}
	r := RateStatus{Limit: limit.String(), Burst: int(f.number("burst")), Overridden: f["over:n"] != ""}
	for i := range usedOver + 1 {
		var second, count int64
		_, err := fmt.Sscanf(f["used:"+strconv.Itoa(i)], "%d %d", &second, &count)
		if age := now.Unix() - second; err == nil && age >= 1 && age <= usedOver {
			r.Used += float64(count) / usedOver
		}
	}
	return r
}

// instant reads milliseconds since 1970; "" and 0 are the zero time.
func instant(ms string) time.Time {
	n, err := strconv.ParseFloat(ms, 64)
	if err != nil || n == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(n)).UTC()
}

func parseHistory(lines []string) ([]HistoryEntry, error) {
	out := make([]HistoryEntry, 0, len(lines))
	for _, line := range lines {
		at, rest, _ := strings.Cut(line, " ")
		state, reason, ok := strings.Cut(rest, " ")
		if !ok || instant(at).IsZero() {
			return nil, errors.New("read the history of the gate: it has an unknown format")
		}
		out = append(out, HistoryEntry{instant(at), state, reason})
	}
	return out, nil
}
