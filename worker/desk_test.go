package worker

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/record"
)

// desk gives answers one after the other, the last one again and again, and
// writes down what a lane does with the clock of the test.
type desk struct {
	away
	begun   time.Time
	answers []record.Answer
	takes   time.Duration                  // a mark
	fault   func(what string) *fault.Fault // of Ready, Connect and CreateLink
	wait    string                         // what goes on until it is broken off

	mu     sync.Mutex
	log    []string
	asks   []record.Ask
	sent   []record.Attempt
	asking map[string]int // by lane
	most   int            // that asked at a time
}

func newDesk(answers ...record.Answer) *desk {
	return &desk{begun: time.Now(), answers: answers, asking: map[string]int{}}
}

func (d *desk) note(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.log = append(d.log, fmt.Sprintf("%v ", time.Since(d.begun))+fmt.Sprintf(format, args...))
}

// name of a request begins with its lane's.
func laneOf(ref record.Ref) string { name, _, _ := strings.Cut(ref.ApplicationID, "-"); return name }

func (d *desk) Mark(_ context.Context, ask record.Ask) (record.Answer, error) {
	d.note("mark %s%s", ask.Ref.ApplicationID, map[bool]string{true: " connected"}[ask.Connected])
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

// together is how many asked at a time at most, since it was last asked.
func (d *desk) together() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	most := d.most
	d.most = 0
	return most
}

func (d *desk) Trouble(_ context.Context, ref record.Ref, f *fault.Fault, chosen bool) (bool, error) {
	d.note("trouble %s %s chosen=%v", ref.ApplicationID, f.Reason(), chosen)
	return f.Party() == fault.Account || chosen && f.Kind == fault.NotSent, nil
}

func (d *desk) Pass(_ context.Context, ref record.Ref) (record.Lane, record.Ref, bool, error) {
	d.note("pass %s", ref.ApplicationID)
	return "", ref, false, nil
}

func (d *desk) Fault(_ context.Context, a record.Attempt, _ *fault.Fault, next record.Next) (record.State, error) {
	d.note("%s %s", next.Follows, a.ApplicationID)
	return record.Queued, nil
}

func (d *desk) Created(_ context.Context, a record.Attempt, _ record.Made) (record.State, error) {
	d.note("created %s", a.ApplicationID)
	return record.Created, nil
}

func (d *desk) do(ctx context.Context, what string) *fault.Fault {
	d.note("%s", what)
	if what == d.wait {
		<-ctx.Done()
		return &fault.Fault{Kind: fault.Interrupted}
	}
	if d.fault != nil {
		return d.fault(what)
	}
	return nil
}

func (d *desk) upstream() Upstream {
	return stub{
		ready:   func(ctx context.Context) *fault.Fault { return d.do(ctx, "ready") },
		connect: func(ctx context.Context) *fault.Fault { return d.do(ctx, "connect") },
		create: func(ctx context.Context, a record.Attempt) (record.Made, *fault.Fault) {
			d.mu.Lock()
			d.sent = append(d.sent, a)
			d.mu.Unlock()
			return record.Made{}, d.do(ctx, "call")
		},
	}
}

func (d *desk) expect(t *testing.T, want ...string) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.Equal(d.log, want) {
		t.Errorf("\ngot  %s\nwant %s", strings.Join(d.log, "\n     "), strings.Join(want, "\n     "))
	}
}
