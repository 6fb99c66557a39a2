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

func TestAdmit_CallsOnceWhenAReplyIsLost(t *testing.T) {
	t.Parallel()
	h := newHarness(t, simulator.Script{})
	ref := h.accept("A-1")
	k := h.book()
	k.afterMark = times(1)
	h.Must(h.joined(k, h.faceki).process(t.Context(), ref))
	h.expect("A-1", request.Created, 1, 0)
	h.calls("A-1", 1)
}

// Meanwhile the queue has given the task to another handler.
func TestAdmit_ReusesItsNonceInTheNextHandler(t *testing.T) {
	t.Parallel()
	h := newHarness(t, simulator.Script{})
	ref := h.accept("A-1")
	k := h.book()
	ctx, cancel := context.WithCancel(t.Context())
	k.afterMark = func() error { cancel(); return errAway }
	p := h.joined(k, h.faceki)
	if _, again := isLater(p.process(ctx, ref)); !again {
		t.Fatal("it does not run again")
	}
	h.expect("A-1", request.Calling, 1, 0)
	k.afterMark = nil
	h.Must(p.process(t.Context(), ref))
	h.expect("A-1", request.Created, 1, 0)
	h.calls("A-1", 1)
}

func TestRecord_PublishesOnceWhenAReplyIsLost(t *testing.T) {
	t.Parallel()
	h := newHarness(t, simulator.Script{})
	ref := h.accept("A-1")
	k := h.book()
	k.afterRecord = times(1)
	h.Must(h.joined(k, h.faceki).process(t.Context(), ref))
	h.expect("A-1", request.Created, 1, 0)
	h.calls("A-1", 1)
	if n := h.Redis.XLen(t.Context(), h.Keys.Results()).Val(); n != 1 {
		t.Errorf("%d events were published, want 1", n)
	}
}

func TestCall_CountsAPanicAsUncertain(t *testing.T) {
	t.Parallel()
	h := newHarness(t, simulator.Script{})
	ref := h.accept("A-1")
	panics := true
	p := h.joined(h.book(), stub{create: func(ctx context.Context, a Attempt) (Link, *Fault) {
		if panics {
			panic("https://simulator.invalid/secret")
		}
		return h.faceki.CreateLink(ctx, a)
	}})
	if _, again := isLater(p.process(t.Context(), ref)); !again {
		t.Fatal("it does not run again")
	}
	h.expect("A-1", request.Queued, 1, 1)
	panics = false
	h.Must(p.process(t.Context(), ref))
	h.expect("A-1", request.Created, 2, 1)
}

// A result is lost within this process, which must count it, whatever happens before the
// next query.
func TestPipeline_CountsALostAnswer(t *testing.T) {
	t.Parallel()
	h := newHarness(t, hang("*"))
	ref := h.accept("A-1")
	k := h.book()
	noToken := false
	p := h.joined(k, stub{
		ready: func(context.Context) *Fault {
			if noToken {
				return &Fault{Kind: TokenUnavailable}
			}
			return nil
		},
		create: func(context.Context, Attempt) (Link, *Fault) {
			return Link{LinkID: "link-1", URL: "https://simulator.invalid/kycverify/link-1"}, nil
		},
	})
	mustRunAgain := func(ctx context.Context) {
		t.Helper()
		if _, again := isLater(p.process(ctx, ref)); !again {
			t.Fatal("it does not run again")
		}
	}
	p.record.results = panicking{k}
	mustRunAgain(t.Context())
	p.record.results = k
	h.expect("A-1", request.Calling, 1, 0)

	noToken = true
	mustRunAgain(t.Context())
	noToken = false
	ctx, cancel := context.WithCancel(t.Context())
	p.admit.asker.admissions = unreached{}
	cancel()
	mustRunAgain(ctx)
	p.admit.asker.admissions = k
	h.expect("A-1", request.Calling, 1, 0)

	h.Must(p.process(t.Context(), ref))
	h.expect("A-1", request.Created, 2, 1)
}

// A lost answer is counted by the next query only.
func TestPipeline_CountsALostAnswerOnce(t *testing.T) {
	t.Parallel()
	h := newHarness(t, simulator.Script{})
	ref := h.accept("A-1")
	k := h.book()
	marks := 0
	k.afterMark = func() error {
		if marks++; marks == 3 {
			return errAway
		}
		return nil
	}
	p := h.joined(k, stub{create: func(_ context.Context, a Attempt) (Link, *Fault) {
		if a.Number == 2 {
			return Link{}, &Fault{Kind: Unauthorized, Renewed: true}
		}
		return Link{LinkID: "link-1", URL: "https://simulator.invalid/kycverify/link-1"}, nil
	}})
	p.record.results = panicking{k}
	if _, again := isLater(p.process(t.Context(), ref)); !again {
		t.Fatal("it does not run again")
	}
	p.record.results = k
	h.Must(p.process(t.Context(), ref))
	h.expect("A-1", request.Created, 3, 1)
}

type panicking struct{ results }

func (panicking) Created(context.Context, attempt.Attempt, request.Link) (request.State, error) {
	panic("it cannot be")
}

type unreached struct{}

func (unreached) Admit(context.Context, attempt.Query) (attempt.Decision, error) {
	return attempt.Decision{}, errAway
}

// logged returns a logger, and a channel that receives its messages.
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

func (h *harness) waitFor(lines <-chan string, message string) {
	h.Helper()
	deadline := time.After(2 * time.Minute)
	for {
		select {
		case line := <-lines:
			if line == message {
				return
			}
		case <-deadline:
			h.Fatalf("never logged: %s", message)
		}
	}
}

func TestRecord_RetriesWhileRedisIsAway(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	h := newHarnessOn(t, srv, hang("*"))
	var lines chan string
	h.cfg.Telemetry.Limited, lines = logged()
	p := h.start(h.book(), h.faceki)
	h.accept("A-1")
	h.Eventually("a call is under way", func() bool { return h.sim.State().InFlight == 1 })
	srv.Kill()
	h.sim.Release()
	h.waitFor(lines, "recording an answer failed; retrying")
	srv.Restart(t)
	h.created("A-1")
	h.expect("A-1", request.Created, 1, 0)
	h.calls("A-1", 1)
	h.Must(p.stop())
}

func TestRecord_LeavesAnUncertainOutcomeWhenGivenUp(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	h := newHarnessOn(t, srv, hang("*"))
	h.cfg.Calls.Timeout = time.Millisecond // how long the worker drains; the call takes longer
	var lines chan string
	h.cfg.Telemetry.Limited, lines = logged()
	p := h.start(h.book(), h.faceki)
	ref := h.accept("A-1")
	h.Eventually("a call is under way", func() bool { return h.sim.State().InFlight == 1 })
	srv.Kill()
	h.Must(h.sim.SetScript(simulator.Script{}))
	h.sim.Release()
	h.waitFor(lines, "recording an answer failed; retrying")
	begun := time.Now()
	h.Must(p.stop())
	t.Logf("stopped within %s", time.Since(begun))
	srv.Restart(t)
	h.expect("A-1", request.Calling, 1, 0)
	heir := h.joined(h.judge(), h.faceki)
	h.Eventually("it is taken", func() bool { return heir.process(t.Context(), ref) == nil })
	h.expect("A-1", request.Created, 2, 1)
}

func TestWorker_FailsToStartWithoutRedis(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	h := newHarnessOn(t, srv, simulator.Script{})
	srv.Stop()
	if err := h.start(h.book(), h.faceki).wait(); err == nil {
		t.Error("the worker ends without an error")
	}
}
