package worker

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/internal/request"
)

var errAway = errors.New("nobody answers")

// times fails n times.
func times(n int) func() error {
	return func() error {
		if n--; n >= 0 {
			return errAway
		}
		return nil
	}
}

func TestTheReplyToAMarkIsLost(t *testing.T) {
	t.Parallel()
	b := newBench(t, simulator.Script{})
	ref := b.accept("A-1")
	k := b.book()
	k.afterMark = times(1)
	b.must(b.joined(k, b.faceki).take(t.Context(), ref))
	b.expect("A-1", request.Created, 1, 0)
	b.calls("A-1", 1)
}

// The queue has taken the task back meanwhile, and hands it out again.
func TestTheReplyToAMarkIsLostForGood(t *testing.T) {
	t.Parallel()
	b := newBench(t, simulator.Script{})
	ref := b.accept("A-1")
	k := b.book()
	ctx, cancel := context.WithCancel(t.Context())
	k.afterMark = func() error { cancel(); return errAway }
	p := b.joined(k, b.faceki)
	if _, again := isLater(p.take(ctx, ref)); !again {
		t.Fatal("it does not come again")
	}
	b.expect("A-1", request.Calling, 1, 0)
	k.afterMark = nil
	b.must(p.take(t.Context(), ref))
	b.expect("A-1", request.Created, 1, 0)
	b.calls("A-1", 1)
}

func TestTheReplyToARecordIsLost(t *testing.T) {
	t.Parallel()
	b := newBench(t, simulator.Script{})
	ref := b.accept("A-1")
	k := b.book()
	k.afterRecord = times(1)
	b.must(b.joined(k, b.faceki).take(t.Context(), ref))
	b.expect("A-1", request.Created, 1, 0)
	b.calls("A-1", 1)
	if n := b.rdb.XLen(t.Context(), b.keys.Results()).Val(); n != 1 {
		t.Errorf("%d events were published, want 1", n)
	}
}

func TestAPanicInACall(t *testing.T) {
	t.Parallel()
	b := newBench(t, simulator.Script{})
	ref := b.accept("A-1")
	panics := true
	p := b.joined(b.book(), stub{create: func(ctx context.Context, a attempt.Attempt) (request.Link, *fault.Fault) {
		if panics {
			panic("https://simulator.invalid/secret")
		}
		return b.faceki.CreateLink(ctx, a)
	}})
	if _, again := isLater(p.take(t.Context(), ref)); !again {
		t.Fatal("it does not come again")
	}
	b.expect("A-1", request.Queued, 1, 1)
	panics = false
	b.must(p.take(t.Context(), ref))
	b.expect("A-1", request.Created, 2, 1)
}

// What a call brought is lost within this process, which must count it whatever
// happens before the next mark.
func TestALostAnswerIsNotForgotten(t *testing.T) {
	t.Parallel()
	b := newBench(t, hang("*"))
	ref := b.accept("A-1")
	k := b.book()
	noToken := false
	p := b.joined(k, stub{
		ready: func(context.Context) *fault.Fault {
			if noToken {
				return &fault.Fault{Kind: fault.TokenUnavailable}
			}
			return nil
		},
		create: func(context.Context, attempt.Attempt) (request.Link, *fault.Fault) {
			return request.Link{LinkID: "link-1", URL: "https://simulator.invalid/kycverify/link-1"}, nil
		},
	})
	mustComeAgain := func(ctx context.Context) {
		t.Helper()
		if _, again := isLater(p.take(ctx, ref)); !again {
			t.Fatal("it does not come again")
		}
	}
	real := p.ledger
	p.ledger = panicking{real}
	mustComeAgain(t.Context())
	p.ledger = real
	b.expect("A-1", request.Calling, 1, 0)

	noToken = true
	mustComeAgain(t.Context())
	noToken = false
	ctx, cancel := context.WithCancel(t.Context())
	p.ledger = unreached{real}
	cancel()
	mustComeAgain(ctx)
	p.ledger = real
	b.expect("A-1", request.Calling, 1, 0)

	b.must(p.take(t.Context(), ref))
	b.expect("A-1", request.Created, 2, 1)
}

// Once a mark has counted it, it is counted; another mark is another matter.
func TestALostAnswerIsCountedOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t, simulator.Script{})
	ref := b.accept("A-1")
	k := b.book()
	marks := 0
	k.afterMark = func() error {
		if marks++; marks == 3 {
			return errAway
		}
		return nil
	}
	p := b.joined(k, stub{create: func(_ context.Context, a attempt.Attempt) (request.Link, *fault.Fault) {
		if a.Attempts == 2 {
			return request.Link{}, &fault.Fault{Kind: fault.Unauthorized, Renewed: true}
		}
		return request.Link{LinkID: "link-1", URL: "https://simulator.invalid/kycverify/link-1"}, nil
	}})
	p.ledger = panicking{k}
	if _, again := isLater(p.take(t.Context(), ref)); !again {
		t.Fatal("it does not come again")
	}
	p.ledger = k
	b.must(p.take(t.Context(), ref))
	b.expect("A-1", request.Created, 3, 1)
}

type panicking struct{ Ledger }

func (panicking) Created(context.Context, attempt.Attempt, request.Link) (request.State, error) {
	panic("it cannot be")
}

type unreached struct{ Ledger }

func (unreached) Mark(context.Context, attempt.Query) (attempt.Answer, error) {
	return attempt.Answer{}, errAway
}

// logged gives a logger, and a channel that gets its messages.
func logged() (*zap.Logger, chan string) {
	lines := make(chan string, 1000)
	core := zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(nowhere{}), zap.DebugLevel)
	return zap.New(core, zap.Hooks(func(e zapcore.Entry) error {
		select {
		case lines <- e.Message:
		default:
		}
		return nil
	})), lines
}

type nowhere struct{}

func (nowhere) Write(p []byte) (int, error) { return len(p), nil }

func (b *bench) waitFor(lines <-chan string, message string) {
	b.t.Helper()
	deadline := time.After(2 * time.Minute)
	for {
		select {
		case line := <-lines:
			if line == message {
				return
			}
		case <-deadline:
			b.t.Fatalf("never logged: %s", message)
		}
	}
}

func TestAnAnswerInHandWhileRedisIsAway(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	b := benchOn(t, srv, hang("*"))
	var lines chan string
	b.cfg.Limited, lines = logged()
	p := b.start(b.book(), b.faceki)
	b.accept("A-1")
	b.eventually("a call is under way", func() bool { return b.sim.State().InFlight == 1 })
	srv.Kill()
	b.sim.Release()
	b.waitFor(lines, "an answer could not be recorded; trying again")
	srv.Restart(t)
	b.created("A-1")
	b.expect("A-1", request.Created, 1, 0)
	b.calls("A-1", 1)
	b.must(p.stop())
}

func TestAnAnswerThatIsGivenUpLeavesDoubt(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	b := benchOn(t, srv, hang("*"))
	b.cfg.CallTimeout = time.Millisecond // the worker's patience; the call has more
	var lines chan string
	b.cfg.Limited, lines = logged()
	p := b.start(b.book(), b.faceki)
	ref := b.accept("A-1")
	b.eventually("a call is under way", func() bool { return b.sim.State().InFlight == 1 })
	srv.Kill()
	b.must(b.sim.SetScript(simulator.Script{}))
	b.sim.Release()
	b.waitFor(lines, "an answer could not be recorded; trying again")
	begun := time.Now()
	b.must(p.stop())
	t.Logf("stopped within %s", time.Since(begun))
	srv.Restart(t)
	b.expect("A-1", request.Calling, 1, 0)
	heir := b.joined(b.judge(), b.faceki)
	b.eventually("it is taken", func() bool { return heir.take(t.Context(), ref) == nil })
	b.expect("A-1", request.Created, 2, 1)
}

func TestRedisIsAwayAtStart(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	b := benchOn(t, srv, simulator.Script{})
	srv.Stop()
	begun := time.Now()
	err := b.start(b.book(), b.faceki).wait()
	if err == nil || time.Since(begun) > 5*time.Second {
		t.Errorf("after %s the worker ends with %v", time.Since(begun), err)
	}
}
