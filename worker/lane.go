package worker

import (
	"context"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/failpoint"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

// Gate is told of what is no call.
type Gate interface {
	// Trouble is a connection or a token that could not be had for a turn;
	// chosen says that this process was told to connect. It gives whether the
	// gate is closed now.
	Trouble(ctx context.Context, ref request.Ref, f *fault.Fault, chosen bool) (closed bool, err error)
	// Pass leaves a turn to another process, as the next one, whose task is to
	// be enqueued then.
	Pass(ctx context.Context, ref request.Ref) (lane request.Lane, next request.Ref, ok bool, err error)
}

// grantLife is how long a grant may be used: FaceKi then sees at most what the
// rate allows in a tenth of a second more.
const grantLife = 100 * time.Millisecond

// lane is the handlers of one lane of this process. While grants come at once, a
// few of them at a time ask whether they may call; from the first denial on, one
// alone does, until a grant comes at once again. The others wait behind, in the
// order in which they came, and cost Redis nothing.
type lane struct {
	*pipeline
	asking chan struct{} // held by the few that ask
	alone  chan struct{} // held as well by the one that asks while grants do not come at once
	flows  atomic.Bool   // grants come at once
	slots  *slots
}

// askers is how many ask at a time at most: as many connections are made ready
// for their calls.
const askers = 8

func newLane(p *pipeline) *lane {
	return &lane{pipeline: p, asking: make(chan struct{}, askers), alone: make(chan struct{}, 1), slots: newSlots(p.auto)}
}

// admit waits until the turn may be called, or is not to be called any more; a
// turn that was left to another process still has the verdict to wait. The error
// is a [*later].
func (l *lane) admit(ctx context.Context, ref request.Ref) (attempt.Answer, error) {
	taken := time.Now()
	if !l.enter(ctx, l.asking) {
		return attempt.Answer{}, &later{} // for another process to take up
	}
	answer, err := l.ask(ctx, ref)
	switch {
	case err != nil:
	case answer.Admission == attempt.Call && answer.Wait > 0:
		<-time.After(answer.Wait) // some 20 ms at most, to the moment of which the grant is
	case answer.Admission == attempt.Wait:
		return answer, l.pass(ctx, ref)
	}
	if err == nil && answer.Admission == attempt.Call {
		l.meter.Admitted(tasks.Lane(answer.Attempt.Lane), time.Since(taken))
	}
	return answer, err
}

// pass leaves a turn to others where only this process' credentials are refused,
// or perhaps only this process cannot reach FaceKi.
// The handler then keeps its slot for a while: a process that cannot call must
// not take one task after the other.
func (l *lane) pass(ctx context.Context, ref request.Ref) error {
	once, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	lane, next, ok, err := l.gate.Pass(once, ref)
	failpoint.Hit("passed")
	if err == nil && ok {
		err = l.dispatch(once, lane, next)
	}
	if err != nil {
		return l.failed("pass", ref, err)
	}
	l.sleep(ctx, passPause)
	return nil
}

// ask asks for whoever holds asking, and gives that up, whatever happens: a
// panic must not stop the lane.
func (l *lane) ask(ctx context.Context, ref request.Ref) (attempt.Answer, error) {
	alone, denied := false, false
	defer func() { l.leave(alone) }()
	for connected, soon := false, true; ; {
		// Who is told to connect has its answer expected, and needs no leave to give it.
		if !alone && !connected && !l.flows.Load() {
			if alone = l.enter(ctx, l.alone); !alone {
				return attempt.Answer{}, &later{}
			}
		}
		// While the gate is closed nothing is asked of FaceKi until it is this
		// process' turn to find out how things are; nor while the next grant is
		// further away than a connection stays open.
		if connected || soon && !l.shut.Load() {
			if again, err := l.ready(ctx, ref, connected); err != nil {
				return attempt.Answer{}, err
			} else if again {
				connected = false
				if !l.sleep(ctx, troublePause) {
					return attempt.Answer{}, &later{}
				}
				continue
			}
		}
		if !l.slot(ctx) {
			return attempt.Answer{}, l.giveBack(ctx, ref, connected)
		}
		asked := time.Now()
		answer, err := l.markOrPutBack(ctx, attempt.Query{Ref: ref, Defaults: l.defaults, Connected: connected})
		if err != nil {
			return answer, l.failed("mark", ref, err)
		}
		switch answer.Admission {
		case attempt.Wait:
			denied = true
			l.flows.Store(false)
			l.shut.Store(answer.Reason != byRate)
			connected = connected && answer.Reason == byRate
			soon = answer.Wait < longestWait
			if answer.Reason == string(fault.Refused) {
				return answer, nil
			}
			if !l.wait(ctx, answer.Wait, &alone, connected) {
				return answer, &later{}
			}
		case attempt.Connect:
			l.flows.Store(false)
			l.shut.Store(true)
			connected, soon = l.connect(ctx, ref), true
			if !connected && l.over(ctx) {
				return answer, &later{}
			}
			if !connected { // perhaps it is this process that cannot
				answer.Admission = attempt.Wait
				return answer, nil
			}
		default:
			if answer.Admission == attempt.Call {
				if alone || answer.Wait > 0 { // what others asked meanwhile tells nothing new
					l.flows.Store(!denied && !answer.Probe && answer.Wait == 0)
				}
				l.shut.Store(answer.Probe)
				answer.Attempt.SendBy = asked.Add(answer.Wait + grantLife)
			}
			return answer, nil
		}
	}
}

// leave ends what a handler held to ask.
func (l *lane) leave(alone bool) {
	if alone {
		<-l.alone
	}
	<-l.asking
}

// slot takes one for a call, unless no call is to be begun any more.
func (l *lane) slot(ctx context.Context) bool {
	if !l.slots.take(ctx, l.stopping.Done()) {
		return false
	}
	if l.over(ctx) {
		l.slots.putBack()
		return false
	}
	return true
}

// markOrPutBack marks with a slot in hand, which only a call keeps.
func (l *lane) markOrPutBack(ctx context.Context, ask attempt.Query) (attempt.Answer, error) {
	answer, err := l.mark(ctx, ask)
	if err != nil || answer.Admission != attempt.Call {
		l.slots.putBack()
	}
	return answer, err
}

// wait sleeps until it may ask again, alone: nobody of the lane is to come before it.
func (l *lane) wait(ctx context.Context, d time.Duration, alone *bool, connected bool) bool {
	next := time.Now().Add(d)
	if !*alone && !connected {
		*alone = l.enter(ctx, l.alone)
	}
	return l.sleep(ctx, time.Until(next))
}

// troublePause keeps a turn that waits after trouble from asking in a hot loop,
// whatever it is answered.
const troublePause = 100 * time.Millisecond

const (
	// passPause is for how long a slot is kept whose turn was left to others.
	passPause = 5 * time.Second
	// longestWait is the most that is waited before asking again: the grant may
	// be further away then.
	longestWait = time.Second
)

// byRate is the reason of a wait that is no closed gate's.
const byRate = "rate"

// connect does what a probe begins with.
func (l *lane) connect(ctx context.Context, ref request.Ref) bool {
	f := l.interruptible(ctx, l.upstream.Connect)
	if f == nil {
		return true
	}
	l.trouble(ctx, ref, f, true)
	return false
}

// ready waits for what a call needs, and no longer than until the worker stops.
// again says that it could not be had and that the gate is closed now, where the
// turn can wait as well as anywhere; the error is a [*later].
func (l *lane) ready(ctx context.Context, ref request.Ref, chosen bool) (again bool, err error) {
	f := l.interruptible(ctx, l.upstream.Ready)
	switch {
	case l.over(ctx):
		return false, l.giveBack(ctx, ref, chosen)
	case f == nil:
		return false, nil
	}
	l.flows.Store(false)
	l.limited.Warn(f.Means(), zap.String("reason", string(f.Reason())), zap.String("message", f.Error()))
	if l.trouble(ctx, ref, f, chosen) {
		return true, nil
	}
	return false, &later{max(f.RetryAfter, l.policy.pause())}
}

// giveBack leaves the turn to another process, and the probe if it was chosen.
func (l *lane) giveBack(ctx context.Context, ref request.Ref, chosen bool) error {
	if chosen {
		l.trouble(ctx, ref, &fault.Fault{Kind: fault.Interrupted}, true)
	}
	return &later{}
}

// trouble tells the gate, and gives whether it is closed. That it could not be
// told is no reason to wait: what follows asks Redis anyway.
func (l *lane) trouble(ctx context.Context, ref request.Ref, f *fault.Fault, chosen bool) bool {
	once, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	closed, err := l.gate.Trouble(once, ref, f, chosen)
	if err != nil {
		l.limited.Warn("the gate could not be told of trouble", zap.Error(err))
		return false
	}
	l.shut.Store(closed)
	return closed
}

func (l *lane) interruptible(ctx context.Context, do func(context.Context) *fault.Fault) *fault.Fault {
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(l.stopping, cancel)()
	return do(waiting)
}

// over says that no call is to be begun any more.
func (p *pipeline) over(ctx context.Context) bool {
	select {
	case <-p.stopping.Done():
		return true
	default:
		return ctx.Err() != nil
	}
}

// enter takes one of a few places, in turn.
func (p *pipeline) enter(ctx context.Context, places chan<- struct{}) bool {
	select {
	case places <- struct{}{}:
		return true
	case <-p.stopping.Done():
		return false
	case <-ctx.Done():
		return false
	}
}

func (p *pipeline) sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-p.stopping.Done():
		return false
	case <-ctx.Done():
		return false
	}
}

// mark tries again while Redis is away: where a mark was made and its reply was
// lost, this process alone knows that no call followed it, by the nonce.
func (p *pipeline) mark(ctx context.Context, ask attempt.Query) (attempt.Answer, error) {
	for {
		ask.Nonce = p.calls.nonce(ask.Ref)
		// To break a mark off, because the worker stops, would be to lose its reply.
		once, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
		answer, err := p.ledger.Mark(once, ask)
		if err == nil && answer.Admission == attempt.Granted {
			// The moment of that grant may be over: it is not used.
			_, err = p.ledger.Fault(once, answer.Attempt, &fault.Fault{Kind: fault.Interrupted}, attempt.Next{Action: attempt.Requeue})
		}
		cancel()
		if err == nil {
			p.calls.answered(ask.Ref)
			if answer.Admission == attempt.Granted {
				continue
			}
		}
		if err == nil || p.gaveUp(err) {
			return answer, err
		}
		p.limited.Warn("a call could not be marked; trying again", zap.Error(err))
		if !p.sleep(ctx, recordPause) {
			return attempt.Answer{}, err
		}
	}
}
