package admission

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/request"
)

// story drives a machine with a line of words a step, which read
//
//	+DURATION                     time passes
//	~DURATION                     the same, while process 1 heartbeats and watches
//	beat PROCESS
//	ask ID [as PROCESS] [with CREDENTIAL] [bulk] [connected]: VERDICT [REASON] [DURATION]
//	KIND ID… [RETRY-AFTER]        their outcome
//	KIND ID… in LATENCY
//	pause, resume                 a person
//	rate RATE                     a worker starts with it
type story struct {
	t   *testing.T
	m   machine
	now time.Time
	by  map[string]Report // what was asked for last, by id
}

func (s *story) step(line string) {
	s.t.Helper()
	words := strings.Fields(line)
	switch {
	case strings.HasPrefix(line, "+"):
		s.now = s.now.Add(s.duration(line[1:]))
	case strings.HasPrefix(line, "~"):
		for end := s.now.Add(s.duration(line[1:])); s.now.Before(end); {
			s.now = s.now.Add(min(100*time.Millisecond, end.Sub(s.now)))
			s.m.Heartbeat(s.now, "1")
			s.m.Watch(s.now)
		}
	case words[0] == "beat":
		s.m.Heartbeat(s.now, words[1])
	case line == "pause":
		s.m.Pause(s.now)
	case line == "resume":
		s.m.Resume(s.now)
	case words[0] == "rate":
		rate, err := ParseRate(words[1])
		if err != nil {
			s.t.Fatal(err)
		}
		s.m.SetRate(s.now, rate, 5)
	case words[0] == "ask":
		s.ask(line)
	default:
		s.report(words)
	}
}

func (s *story) duration(text string) time.Duration {
	d, err := time.ParseDuration(text)
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

func (s *story) ask(line string) {
	s.t.Helper()
	asked, wanted, _ := strings.Cut(line, ": ")
	words := strings.Fields(asked)
	ask := Query{Lane: request.Interactive, Process: "1", Credential: "new", ID: words[1]}
	for i, w := range words {
		switch w {
		case "as":
			ask.Process = words[i+1]
		case "with":
			ask.Credential = words[i+1]
		case "bulk":
			ask.Lane = request.Bulk
		case "connected":
			ask.Connected = true
		}
	}
	d := s.m.Admit(s.now, ask)
	got := []string{string(d.Verdict)}
	if d.Reason != "" {
		got = append(got, d.Reason)
	}
	want := strings.Fields(wanted)
	if len(want) > 0 && strings.ContainsAny(want[len(want)-1], "0123456789") {
		got = append(got, d.Wait.String())
	}
	if !slices.Equal(got, want) {
		s.t.Fatalf("%s after the start: %s, got %v (%s)", s.now.Sub(start), line, got, d.Wait)
	}
	s.by[ask.ID] = Report{ID: ask.ID, Process: ask.Process, Credential: ask.Credential, Began: s.now}
}

func (s *story) report(words []string) {
	var retry time.Duration
	latency := 50 * time.Millisecond
	if i := slices.Index(words, "in"); i > 0 {
		latency = s.duration(words[i+1])
		words = words[:i]
	}
	if last := words[len(words)-1]; strings.ContainsAny(last[:1], "0123456789") {
		retry = s.duration(last)
		words = words[:len(words)-1]
	}
	for _, id := range words[1:] {
		r, known := s.by[id]
		if !known {
			s.t.Fatalf("nobody asked for %s", id)
		}
		r.Kind, r.RetryAfter, r.Latency = Kind(words[0]), retry, latency
		s.m.Report(s.now, r)
	}
}

const (
	five      = "ask A: grant; ask B: grant; ask C: grant; ask D: grant; ask E: grant"
	down      = five + "; outage A B C D E" // at 0 s of the story
	probe     = "ask P: connect outage; ask P connected: probe outage"
	noCredits = five + "; no_credit A"
)

// TestStories: what each rule of the gate makes of a short history.
func TestStories(t *testing.T) {
	for _, tt := range stories() {
		t.Run(tt.name, func(t *testing.T) {
			everywhere(t, func(t *testing.T, m machine) {
				s := &story{t, m, start, map[string]Report{}}
				m.SetRate(start, Rate{5, time.Second}, 5)
				m.Admit(start, Query{Lane: request.Interactive, Process: "1", Credential: "new", ID: "0"}) // the bucket fills from here
				s.now = start.Add(2 * time.Second)
				for line := range strings.SplitSeq(tt.steps, ";") {
					s.step(strings.TrimSpace(line))
				}
				var history []string
				for _, c := range m.changes() {
					after := time.Duration(c.At-float64(start.Add(2*time.Second).UnixMilli())) * time.Millisecond
					history = append(history, strings.TrimSpace(fmt.Sprint(after, " ", c.State, " ", c.Reason)))
				}
				if got := strings.Join(history, ", "); got != tt.history {
					t.Errorf("history %q, want %q", got, tt.history)
				}
			})
		})
	}
}
