package admission

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/request"
)

// scenarioRun runs the steps of a scenario with a decider:
//
//	+DURATION                     time passes
//	~DURATION                     time passes, while process 1 sends heartbeats and watches the gate
//	heartbeat PROCESS             a process sends a heartbeat
//	admit ID [as PROCESS] [with CREDENTIAL] [bulk] [connected]: VERDICT [REASON] [WAIT]
//	SIGNAL ID… [RETRY-AFTER]      the outcome of calls
//	SIGNAL ID… in LATENCY         the same, with the latency of the answer
//	pause, resume                 an operator pauses or resumes the account
//	rate RATE                     a worker joins with this rate
type scenarioRun struct {
	t       *testing.T
	decider decider
	now     time.Time
	calls   map[string]Report // the last call of each request, by id
}

func (s *scenarioRun) step(line string) {
	s.t.Helper()
	words := strings.Fields(line)
	switch {
	case strings.HasPrefix(line, "+"):
		s.now = s.now.Add(s.duration(line[1:]))
	case strings.HasPrefix(line, "~"):
		for end := s.now.Add(s.duration(line[1:])); s.now.Before(end); {
			s.now = s.now.Add(min(100*time.Millisecond, end.Sub(s.now)))
			s.decider.Heartbeat(s.now, "1")
			s.decider.Watch(s.now)
		}
	case words[0] == "heartbeat":
		s.decider.Heartbeat(s.now, words[1])
	case line == "pause":
		s.decider.Pause(s.now)
	case line == "resume":
		s.decider.Resume(s.now)
	case words[0] == "rate":
		rate, err := ParseRate(words[1])
		if err != nil {
			s.t.Fatal(err)
		}
		s.decider.SetRate(s.now, rate, 5)
	case words[0] == "admit":
		s.admit(line)
	default:
		s.report(words)
	}
}

func (s *scenarioRun) duration(text string) time.Duration {
	d, err := time.ParseDuration(text)
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

func (s *scenarioRun) admit(line string) {
	s.t.Helper()
	call, decision, _ := strings.Cut(line, ": ")
	words := strings.Fields(call)
	query := Query{Lane: request.Interactive, Process: "1", Credential: "new", ID: words[1]}
	for i, w := range words {
		switch w {
		case "as":
			query.Process = words[i+1]
		case "with":
			query.Credential = words[i+1]
		case "bulk":
			query.Lane = request.Bulk
		case "connected":
			query.Connected = true
		}
	}
	d := s.decider.Admit(s.now, query)
	got := []string{string(d.Verdict)}
	if d.Reason != "" {
		got = append(got, d.Reason)
	}
	want := strings.Fields(decision)
	if len(want) > 0 && strings.ContainsAny(want[len(want)-1], "0123456789") {
		got = append(got, d.Wait.String())
	}
	if !slices.Equal(got, want) {
		s.t.Fatalf("%s after the start: step %q: the decision is %v with a wait of %s", s.now.Sub(start), line, got, d.Wait)
	}
	s.calls[query.ID] = Report{ID: query.ID, Process: query.Process, Credential: query.Credential, Began: s.now}
}

func (s *scenarioRun) report(words []string) {
	var retryAfter time.Duration
	latency := 50 * time.Millisecond
	if i := slices.Index(words, "in"); i > 0 {
		latency = s.duration(words[i+1])
		words = words[:i]
	}
	if last := words[len(words)-1]; strings.ContainsAny(last[:1], "0123456789") {
		retryAfter = s.duration(last)
		words = words[:len(words)-1]
	}
	for _, id := range words[1:] {
		r, known := s.calls[id]
		if !known {
			s.t.Fatalf("step %q reports the outcome of %s, which no step admits", words, id)
		}
		r.Signal, r.RetryAfter, r.Latency = Signal(words[0]), retryAfter, latency
		s.decider.Report(s.now, r)
	}
}

const (
	fiveCalls = "admit A: grant; admit B: grant; admit C: grant; admit D: grant; admit E: grant"
	down      = fiveCalls + "; outage A B C D E" // the gate closes at 0 s
	probe     = "admit P: connect outage; admit P connected: probe outage"
	noCredits = fiveCalls + "; no_credit A"
)

// TestGate_FollowsItsRules checks each decision of each scenario, and the changes of the
// gate, by their times since the first step.
func TestGate_FollowsItsRules(t *testing.T) {
	for _, tt := range scenarios() {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel() // they wait for Redis
			onEachDecider(t, func(t *testing.T, d decider) {
				s := &scenarioRun{t, d, start, map[string]Report{}}
				d.SetRate(start, Rate{5, time.Second}, 5)
				d.Admit(start, Query{Lane: request.Interactive, Process: "1", Credential: "new", ID: "0"}) // from now on, the bucket fills
				s.now = start.Add(2 * time.Second)
				for line := range strings.SplitSeq(tt.steps, ";") {
					s.step(strings.TrimSpace(line))
				}
				var history []string
				for _, c := range d.changes() {
					after := time.Duration(c.At-float64(start.Add(2*time.Second).UnixMilli())) * time.Millisecond
					history = append(history, strings.TrimSpace(fmt.Sprint(after, " ", c.State, " ", c.Reason)))
				}
				if got := strings.Join(history, ", "); got != tt.history {
					t.Errorf("changes of the gate: %q, want %q", got, tt.history)
				}
			})
		})
	}
}
