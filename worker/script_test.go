package worker

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/request"
)

// script gives answers one after the other, the last one repeatedly, and records what a
// pipeline does, with the clock of the test.
type script struct {
	away
	begun   time.Time
	answers []attempt.Decision
	takes   time.Duration            // a query
	fault   func(what string) *Fault // of Ready, Connect and CreateLink
	wait    string                   // the step that lasts until it is interrupted

	mu     sync.Mutex
	log    []noted
	asks   []attempt.Query
	sent   []Attempt
	asking map[string]int // by lane
	most   int            // that asked at a time
}

func newScript(answers ...attempt.Decision) *script {
	return &script{begun: time.Now(), answers: answers, asking: map[string]int{}}
}

// noted is what was done for a request.
type noted struct {
	at       time.Duration
	id, what string
}

func (d *script) note(id, format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.log = append(d.log, noted{time.Since(d.begun), id, fmt.Sprintf(format, args...)})
}

type idKey struct{}

// named adds the application id to the context of requests to FaceKi, which do not contain
// it.
func named(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, idKey{}, id)
}

// name of a request begins with its lane's.
func laneOf(ref request.Ref) string { name, _, _ := strings.Cut(ref.ApplicationID, "-"); return name }

func (d *script) Admit(_ context.Context, ask attempt.Query) (attempt.Decision, error) {
	d.note(ask.Ref.ApplicationID, "mark %s%s", ask.Ref.ApplicationID, map[bool]string{true: " connected"}[ask.Connected])
	d.mu.Lock()
	d.asking[laneOf(ask.Ref)]++
	d.most = max(d.most, d.asking[laneOf(ask.Ref)])
	d.asks = append(d.asks, ask)
	answer := d.answers[0]
	if len(d.answers) > 1 {
		d.answers = d.answers[1:]
	}
	d.mu.Unlock()
	<-time.After(d.takes)
	d.mu.Lock()
	d.asking[laneOf(ask.Ref)]--
	d.mu.Unlock()
	answer.Attempt.ApplicationID = ask.Ref.ApplicationID
	return answer, d.reached()
}

// together returns how many asked at a time at most since its last call.
func (d *script) together() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	most := d.most
	d.most = 0
	return most
}

func (d *script) ReportSignal(_ context.Context, ref request.Ref, f *fault.Fault, chosen bool) (bool, error) {
	d.note(ref.ApplicationID, "trouble %s %s chosen=%v", ref.ApplicationID, f.Reason(), chosen)
	return f.Scope() == fault.Account || chosen && f.Kind == fault.NotSent, nil
}

func (d *script) Release(_ context.Context, ref request.Ref) (request.Lane, request.Ref, bool, error) {
	d.note(ref.ApplicationID, "pass %s", ref.ApplicationID)
	return "", ref, false, nil
}

func (d *script) Fault(_ context.Context, a attempt.Attempt, _ *fault.Fault, next attempt.Next) (request.State, error) {
	d.note(a.ApplicationID, "%s %s", next.Action, a.ApplicationID)
	return request.Queued, nil
}

func (d *script) Created(_ context.Context, a attempt.Attempt, _ request.Link) (request.State, error) {
	d.note(a.ApplicationID, "created %s", a.ApplicationID)
	return request.Created, nil
}

func (d *script) do(ctx context.Context, what string) *Fault {
	id, _ := ctx.Value(idKey{}).(string)
	d.note(id, "%s", what)
	if what == d.wait {
		<-ctx.Done()
		return &Fault{Kind: Interrupted}
	}
	if d.fault != nil {
		return d.fault(what)
	}
	return nil
}

func (d *script) upstream() Upstream {
	return stub{
		ready:   func(ctx context.Context) *Fault { return d.do(ctx, "ready") },
		connect: func(ctx context.Context) *Fault { return d.do(ctx, "connect") },
		create: func(ctx context.Context, a Attempt) (Link, *Fault) {
			d.mu.Lock()
			d.sent = append(d.sent, a)
			d.mu.Unlock()
			return Link{}, d.do(ctx, "call")
		},
	}
}

// expect compares what was noted. At the same instant it sorts by request, as the order of
// goroutines is the scheduler's choice.
func (d *script) expect(t *testing.T, want ...string) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	slices.SortStableFunc(d.log, func(a, h noted) int {
		return cmp.Or(cmp.Compare(a.at, h.at), cmp.Compare(a.id, h.id))
	})
	var got []string
	for _, n := range d.log {
		got = append(got, fmt.Sprint(n.at, " ", n.what))
	}
	if !slices.Equal(got, want) {
		t.Errorf("\ngot  %s\nwant %s", strings.Join(got, "\n     "), strings.Join(want, "\n     "))
	}
}
