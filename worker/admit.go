package worker

import (
	"context"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/asynqx"
	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/request"
)

const (
	// grantLife is how long a grant may be used. FaceKi then sees at most what the rate
	// allows in a tenth of a second more.
	grantLife = 100 * time.Millisecond
	// longestWait is the longest wait before the next query; the grant may be further away.
	// A connection is prepared only for a grant that is nearer than this, as it would not
	// stay open for longer.
	longestWait = time.Second
	// troublePause is the pause after a failed preparation, which prevents a busy loop.
	troublePause = 100 * time.Millisecond
	// byRate is the reason of a wait for the rate; every other reason is a closed gate's.
	byRate = "rate"
)

// admitter is the stage that waits until a turn may be called. While grants come at once,
// a few turns of a lane ask at a time. After a denial one turn asks at a time, until a
// grant comes at once again. The others wait in the order in which they came, and cost
// Redis nothing.
type admitter struct {
	asker    *asker
	gate     *gate
	upstream upstream
	line     *line
	limit    *limit
	release  *releaser
	retry    *retrier
}

// line is where the turns of one lane wait to ask.
type line struct {
	places    chan struct{} // held by the turns that ask
	exclusive chan struct{} // held as well by the one turn that asks while grants do not come at once
	flowing   atomic.Bool   // grants come at once
}

// mostAsking is how many turns of a lane ask at a time, and so join one script. Fewer
// connections are prepared for them, as while grants come at once those of earlier calls
// are at hand.
const mostAsking = 32

func newLine() *line {
	return &line{places: make(chan struct{}, mostAsking), exclusive: make(chan struct{}, 1)}
}

// admit waits until the turn may be called, or needs no call. The error is what the
// handler returns. A turn that was released to another process has the answer Wait.
func (a *admitter) admit(ctx context.Context, turn request.Ref) (attempt.Decision, error) {
	answer, err := a.ask(ctx, turn)
	switch {
	case err != nil:
		return answer, err
	case answer.Verdict == attempt.Wait:
		return answer, a.release.release(ctx, turn)
	case answer.Verdict == attempt.Call && answer.Wait > 0:
		<-time.After(answer.Wait) // until the moment of the grant, some 20 ms at most
	}
	return answer, nil
}

// ask waits for a place and runs the turn's state machine. It leaves the place in any
// case: a panic must not stop the lane.
func (a *admitter) ask(ctx context.Context, turn request.Ref) (attempt.Decision, error) {
	if !a.gate.life.Acquire(ctx, a.line.places) {
		return attempt.Decision{}, &asynqx.Later{}
	}
	t := &turnAdmission{admitter: a, turn: turn, state: liningUp}
	defer t.leave()
	return t.run(ctx)
}

// admissionState is where a turn is on its way to admission.
//
//	liningUp ─▶ preparing ─▶ asking ─▶ decided
//	   ▲ ▲          │          │ └─▶ connecting ─▶ preparingProbe ─▶ askingAsProbe ─▶ decided
//	   │ └─ pausing ◀          ▼                          ▲                │
//	   └────────────────── waiting                        └─ waitingAsProbe ◀
//
// A turn that asks or asks as the probe may be denied by the gate (waiting), be chosen to
// probe (connecting), or be decided. A probe that is denied by the rate keeps its
// connection (waitingAsProbe). A preparation that fails while the gate is closed pauses.
type admissionState int

const (
	liningUp       admissionState = iota // waits for the exclusive place, unless grants come at once
	preparing                            // gets a token and a connection
	asking                               // asks the ledger for admission
	waiting                              // waits until it may ask again
	pausing                              // waits briefly after a failed preparation
	connecting                           // was chosen to probe: checks that FaceKi can be reached
	preparingProbe                       // connected: gets a token
	askingAsProbe                        // connected: asks for admission
	waitingAsProbe                       // connected: waits for the rate
	decided                              // has its answer
)

// turnAdmission is one turn on its way through the stage.
type turnAdmission struct {
	admitter  *admitter
	turn      request.Ref
	state     admissionState
	exclusive bool          // it holds the exclusive place
	denials   int           // how often it was denied
	nextGrant time.Duration // how far away the next grant was at the last denial
	answer    attempt.Decision
}

// run goes from state to state. The error is what the handler returns.
func (t *turnAdmission) run(ctx context.Context) (attempt.Decision, error) {
	for t.state != decided {
		next, err := t.step(ctx)
		if err != nil {
			return t.answer, err
		}
		t.state = next
	}
	return t.answer, nil
}

func (t *turnAdmission) step(ctx context.Context) (admissionState, error) {
	switch t.state {
	case preparing, preparingProbe:
		return t.prepare(ctx)
	case asking, askingAsProbe:
		return t.ask(ctx)
	case waiting:
		return t.wait(ctx)
	case pausing:
		return t.sleep(ctx, troublePause, liningUp)
	case connecting:
		return t.connect(ctx)
	case waitingAsProbe:
		return t.sleep(ctx, t.answer.Wait, preparingProbe)
	default:
		return t.lineUp(ctx)
	}
}

// lineUp takes the exclusive place, unless grants come at once. While the gate is closed
// nothing is asked of FaceKi until this process is chosen to probe; nor while the next
// grant is further away than a connection stays open.
func (t *turnAdmission) lineUp(ctx context.Context) (admissionState, error) {
	a := t.admitter
	if !t.exclusive && !a.line.flowing.Load() {
		if t.exclusive = a.gate.life.Acquire(ctx, a.line.exclusive); !t.exclusive {
			return decided, &asynqx.Later{}
		}
	}
	if t.nextGrant < longestWait && !a.gate.closed.Load() {
		return preparing, nil
	}
	return asking, nil
}

// prepare gets what a call needs, so that nothing delays it after the grant.
func (t *turnAdmission) prepare(ctx context.Context) (admissionState, error) {
	a, probe := t.admitter, t.state == preparingProbe
	f := a.gate.untilDrain(ctx, a.upstream.ready)
	switch {
	case a.gate.life.Stopped(ctx):
		return decided, t.stop(ctx, probe)
	case f != nil:
		a.line.flowing.Store(false)
		a.gate.limited.Warn(f.Means(), zap.String("reason", string(f.Reason())), zap.String("message", f.Error()))
		if a.gate.report(ctx, t.turn, f, probe) {
			return pausing, nil // the gate is closed: the turn waits here
		}
		return decided, &asynqx.Later{Delay: max(f.RetryAfter, a.retry.policy.pause())}
	case probe:
		return askingAsProbe, nil
	}
	return asking, nil
}

// ask takes a slot of the concurrency limit and asks for admission. Only a call keeps the
// slot.
func (t *turnAdmission) ask(ctx context.Context) (admissionState, error) {
	a, probe := t.admitter, t.state == askingAsProbe
	if !t.takeSlot(ctx) {
		return decided, t.stop(ctx, probe)
	}
	called := false
	defer func() {
		if !called {
			a.limit.putBack()
		}
	}()
	asked := time.Now()
	answer, err := a.asker.ask(ctx, t.turn, probe)
	called = err == nil && answer.Verdict == attempt.Call
	if t.answer = answer; err != nil {
		return decided, a.retry.after("admit", t.turn, err)
	}
	switch answer.Verdict {
	case attempt.Wait:
		return t.denied(probe), nil
	case attempt.Connect:
		a.line.flowing.Store(false)
		a.gate.closed.Store(true)
		return connecting, nil
	case attempt.Call:
		t.granted(asked)
	default: // the turn needs no call now
	}
	return decided, nil
}

// takeSlot takes a slot of the concurrency limit. It returns false if no more calls may
// begin.
func (t *turnAdmission) takeSlot(ctx context.Context) bool {
	a := t.admitter
	if !a.limit.take(ctx, a.gate.life.Draining()) {
		return false
	}
	if a.gate.life.Stopped(ctx) {
		a.limit.putBack()
		return false
	}
	return true
}

// denied handles the answer Wait. If only the credentials of this process are refused, the
// turn is released to other processes.
func (t *turnAdmission) denied(probe bool) admissionState {
	a := t.admitter
	t.denials++
	t.nextGrant = t.answer.Wait
	a.line.flowing.Store(false)
	a.gate.closed.Store(t.answer.Reason != byRate)
	switch {
	case t.answer.Reason == string(fault.Refused):
		return decided
	case probe && t.answer.Reason == byRate:
		return waitingAsProbe
	}
	return waiting
}

// granted handles the answer Call.
func (t *turnAdmission) granted(asked time.Time) {
	a := t.admitter
	if t.exclusive || t.answer.Wait > 0 { // with several turns asking, a grant at once is no news
		a.line.flowing.Store(t.denials == 0 && !t.answer.Probe && t.answer.Wait == 0)
	}
	a.gate.closed.Store(t.answer.Probe)
	t.answer.Attempt.SendBy = asked.Add(t.answer.Wait + grantLife)
}

// wait waits until the turn may ask again, alone: no other turn of the lane overtakes it.
func (t *turnAdmission) wait(ctx context.Context) (admissionState, error) {
	a, next := t.admitter, time.Now().Add(t.answer.Wait)
	if !t.exclusive {
		t.exclusive = a.gate.life.Acquire(ctx, a.line.exclusive)
	}
	return t.sleep(ctx, time.Until(next), liningUp)
}

func (t *turnAdmission) sleep(ctx context.Context, d time.Duration, next admissionState) (admissionState, error) {
	if !t.admitter.gate.life.Sleep(ctx, d) {
		return decided, &asynqx.Later{}
	}
	return next, nil
}

// connect begins a probe. If this process cannot connect, the turn is released, because
// another process may be able to.
func (t *turnAdmission) connect(ctx context.Context) (admissionState, error) {
	a := t.admitter
	f := a.gate.untilDrain(ctx, a.upstream.connect)
	if f == nil {
		t.nextGrant = 0
		return preparingProbe, nil
	}
	a.gate.report(ctx, t.turn, f, true)
	if a.gate.life.Stopped(ctx) {
		return decided, &asynqx.Later{}
	}
	t.answer.Verdict = attempt.Wait
	return decided, nil
}

// stop lets the turn run later in another process. If this one was chosen to probe, it
// gives the probe up.
func (t *turnAdmission) stop(ctx context.Context, probe bool) error {
	if probe {
		t.admitter.gate.report(ctx, t.turn, &fault.Fault{Kind: fault.Interrupted}, true)
	}
	return &asynqx.Later{}
}

// leave frees the places.
func (t *turnAdmission) leave() {
	if t.exclusive {
		<-t.admitter.line.exclusive
	}
	<-t.admitter.line.places
}
