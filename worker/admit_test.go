package worker

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/request"
)

func turnOf(id string) request.Ref { return request.Ref{ApplicationID: id, Generation: 1, Run: 1} }

// begin lets a handler begin, up to where it waits.
func begin(ctx context.Context, l *pipeline, id string) <-chan error {
	over := make(chan error, 1)
	go func() { over <- l.process(named(ctx, id), turnOf(id)) }()
	synctest.Wait()
	return over
}

func wait(d time.Duration, reason string) attempt.Decision {
	return attempt.Decision{Verdict: attempt.Wait, Wait: d, Reason: reason}
}

var (
	granted = attempt.Decision{Verdict: attempt.Call}
	probe   = attempt.Decision{Verdict: attempt.Call, Probe: true, Reason: "outage"}
	chosen  = attempt.Decision{Verdict: attempt.Connect, Reason: "outage"}
	shut    = wait(time.Second, "outage")
)

func TestAdmit_AsksOneAtATimeInTurnAfterADenial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newScript(wait(time.Second, "rate"), granted)
		d.takes = 10 * time.Millisecond
		w := clocked(d, d.upstream())
		signups, rows := w.pipeline(), w.pipeline()
		var all []<-chan error
		for _, id := range []string{"s-1", "s-2", "s-3"} {
			all = append(all, begin(t.Context(), signups, id))
		}
		all = append(all, begin(t.Context(), rows, "r-1")) // passes by
		for _, over := range all {
			if err := <-over; err != nil {
				t.Error(err)
			}
		}
		d.expect(t,
			"0s ready", "0s mark r-1",
			"0s ready", "0s mark s-1", "10ms call", "10ms created r-1",
			"1.01s mark s-1", // a grant a second away needs no connection yet
			"1.02s call", "1.02s created s-1",
			"1.02s ready", "1.02s mark s-2",
			"1.03s call", "1.03s created s-2",
			"1.03s ready", "1.03s mark s-3",
			"1.04s call", "1.04s created s-3")
	})
}

// While grants come at once, a few turns ask at a time: otherwise the lane would make one
// call per round trip.
func TestAdmit_AsksAFewAtATimeWhileGrantsComeAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		far := granted
		far.Wait = 20 * time.Millisecond
		for name, tt := range map[string]struct {
			answers      []attempt.Decision
			first, later bool // several ask at a time: of many turns, and of as many that come later
		}{
			"at once":                  {[]attempt.Decision{granted}, true, true},
			"once denied":              {[]attempt.Decision{wait(time.Second, "rate"), granted}, true, true},
			"the gate is shut":         {[]attempt.Decision{shut}, false, false},
			"denied later":             {append(slices.Repeat([]attempt.Decision{granted}, mostAsking+5), shut), true, false},
			"held to be sent in time":  {[]attempt.Decision{far}, false, false},
			"each waits for its grant": {slices.Repeat([]attempt.Decision{wait(100*time.Millisecond, "rate"), granted}, 4*mostAsking), false, false},
		} {
			d := newScript(tt.answers...)
			d.takes = 10 * time.Millisecond
			l := clocked(d, d.upstream()).pipeline()
			ctx, cancel := context.WithCancel(t.Context())
			for _, several := range []bool{tt.first, tt.later} {
				for i := range 2 * mostAsking {
					begin(ctx, l, fmt.Sprintf("A-%d", i))
				}
				<-time.After(3 * time.Second)
				if n := d.together(); n > mostAsking || (n > 1) != several {
					t.Errorf("%s: %d asked at a time", name, n)
				}
			}
			cancel()
			<-time.After(time.Second) // those that ask have their answer
			synctest.Wait()
		}
	})
}

// Of the turns that asked together when the gate closed, the one that is chosen to probe
// asks again without waiting for the others, and no other turn overtakes it.
func TestAdmit_ProbesWithATurnThatAskedWithOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newScript(granted, shut, chosen, probe, shut)
		d.takes = 10 * time.Millisecond
		l := clocked(d, d.upstream()).pipeline()
		<-begin(t.Context(), l, "A-1")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		d.log, d.begun = nil, time.Now()
		waits := begin(ctx, l, "A-2")
		<-time.After(5 * time.Millisecond) // so that it holds the exclusive place before the other has its answer
		select {
		case err := <-begin(ctx, l, "A-3"):
			if err != nil {
				t.Error(err)
			}
		case <-time.After(time.Minute):
			t.Error("it waits for the other")
		}
		d.expect(t, "0s ready", "0s mark A-2", "5ms ready", "5ms mark A-3",
			"15ms connect", "15ms ready", "15ms mark A-3 connected", "25ms call", "25ms created A-3")
		cancel()
		<-waits
	})
}

func TestAdmit_WaitsAsToldAndHoldsAGrant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		held := granted
		held.Wait = 15 * time.Millisecond
		d := newScript(wait(700*time.Millisecond, "rate"), shut, shut, held)
		d.takes = 10 * time.Millisecond
		over := begin(t.Context(), clocked(d, d.upstream()).pipeline(), "A-1")
		if err := <-over; err != nil {
			t.Error(err)
		}
		// Nothing is asked of FaceKi once the gate is known to be closed.
		d.expect(t, "0s ready", "0s mark A-1", "710ms ready", "710ms mark A-1",
			"1.72s mark A-1", "2.73s mark A-1", "2.755s call", "2.755s created A-1")
		// 100 ms after the moment of the grant, counted from before the query.
		if by := d.sent[0].SendBy.Sub(d.begun); by != 2730*time.Millisecond+15*time.Millisecond+100*time.Millisecond {
			t.Errorf("the call is to be sent within %s", by)
		}
	})
}

func TestAdmit_ConnectsBeforeAProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newScript(shut, chosen, probe, granted)
		l := clocked(d, d.upstream()).pipeline()
		if err := <-begin(t.Context(), l, "A-1"); err != nil {
			t.Error(err)
		}
		d.expect(t, "0s ready", "0s mark A-1", "1s mark A-1", "1s connect", "1s ready", "1s mark A-1 connected", "1s call", "1s created A-1")
		if !l.admit.gate.closed.Load() {
			t.Error("a probe on its way says that the gate is open")
		}
		<-begin(t.Context(), l, "A-2")
		if l.admit.gate.closed.Load() {
			t.Error("a grant says that the gate is shut")
		}
	})
}

func TestAdmit_ReleasesAProbeThatCannotConnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newScript(shut, chosen, shut, granted)
		d.fault = func(what string) *Fault {
			if what == "connect" {
				return &Fault{Kind: NotSent}
			}
			return nil
		}
		if err := <-begin(t.Context(), clocked(d, d.upstream()).pipeline(), "A-1"); err != nil {
			t.Error(err)
		}
		d.expect(t, "0s ready", "0s mark A-1", "1s mark A-1", "1s connect", "1s trouble A-1 connection chosen=true",
			"1s pass A-1") // perhaps another process can
	})
}

// A turn that waits only for the rate keeps its connection.
func TestAdmit_KeepsTheConnectionOfAProbeWhileItWaitsForTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newScript(chosen, wait(300*time.Millisecond, "rate"), granted)
		if err := <-begin(t.Context(), clocked(d, d.upstream()).pipeline(), "A-1"); err != nil {
			t.Error(err)
		}
		d.expect(t, "0s ready", "0s mark A-1", "0s connect", "0s ready", "0s mark A-1 connected",
			"300ms ready", "300ms mark A-1 connected", "300ms call", "300ms created A-1")
	})
}

func TestAdmit_RunsLaterWhenPreparationFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newScript(shut, chosen)
		first := true
		d.fault = func(what string) *Fault {
			switch {
			case what == "ready" && first:
				return &Fault{Kind: TokenUnavailable, RetryAfter: time.Minute}
			case what == "ready" && len(d.asks) > 0: // it has connected
				return &Fault{Kind: TokenUnavailable}
			}
			return nil
		}
		l := clocked(d, d.upstream()).pipeline()
		if delay, again := isLater(<-begin(t.Context(), l, "A-1")); !again || delay != time.Minute {
			t.Errorf("runs again after %s", delay)
		}
		d.expect(t, "0s ready", "0s trouble A-1 upstream_unavailable chosen=false")

		d.log, first = nil, false
		if delay, again := isLater(<-begin(t.Context(), l, "A-2")); !again || delay < time.Second {
			t.Errorf("runs again after %s", delay)
		}
		d.expect(t, "0s ready", "0s mark A-2", "1s mark A-2", "1s connect", "1s ready", "1s trouble A-2 upstream_unavailable chosen=true")
	})
}

// With refused credentials no turn connects: the turns are released to other processes, and
// their handlers stay busy.
func TestAdmit_ReleasesTurnsWhenCredentialsAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newScript(wait(time.Second, "refused"))
		d.fault = func(string) *Fault { return &Fault{Kind: Unauthorized} }
		w := clocked(d, d.upstream())
		l := w.pipeline()
		first, second := begin(t.Context(), l, "A-1"), begin(t.Context(), l, "A-2")
		<-time.After(1500 * time.Millisecond) // of the bubble's clock
		synctest.Wait()
		d.expect(t, "0s ready", "0s trouble A-1 refused chosen=false",
			"100ms mark A-1", "100ms pass A-1", "100ms mark A-2", "100ms pass A-2")
		select {
		case <-first:
			t.Error("the slot was given up at once")
		default:
		}
		w.stop()
		<-first
		<-second
	})
}

func TestPipeline_AdmitsAgainAtOnceWhenACallWasNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newScript(granted)
		calls := 0
		d.fault = func(what string) *Fault {
			if what != "call" {
				return nil
			}
			if calls++; calls == 1 {
				return &Fault{Kind: Interrupted}
			}
			return nil
		}
		if err := <-begin(t.Context(), clocked(d, d.upstream()).pipeline(), "A-1"); err != nil {
			t.Error(err)
		}
		d.expect(t, "0s ready", "0s mark A-1", "0s call", "0s back A-1", "0s ready", "0s mark A-1", "0s call", "0s created A-1")
	})
}

// Whatever a handler waits for, it ends at once when the worker drains or the queue has
// given its task to another process, and so do the handlers behind it.
func TestAdmit_StopsWaitingAtOnceWhenItStops(t *testing.T) {
	for name, tt := range map[string]struct {
		script func() *script
		last   string // that is done for A-1
	}{
		"for the gate":        {func() *script { return newScript(wait(time.Hour, "paused")) }, "0s mark A-1"},
		"for a token":         {func() *script { d := newScript(granted); d.wait = "ready"; return d }, "0s ready"},
		"for a connection":    {func() *script { d := newScript(chosen); d.wait = "connect"; return d }, "0s trouble A-1 paused chosen=true"},
		"as the chosen one":   {func() *script { d := newScript(chosen); d.wait = "chosen"; return d }, "0s trouble A-1 paused chosen=true"},
		"while Redis is away": {func() *script { d := newScript(granted); d.back = time.Now().Add(time.Hour); return d }, "0s mark A-1"},
	} {
		for _, lost := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, lease lost %v", name, lost), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					d := tt.script()
					upstream := d.upstream().(stub)
					if d.wait == "chosen" { // connected, then waits for the token
						upstream.ready = func(ctx context.Context) *Fault {
							if len(d.asks) > 0 {
								<-ctx.Done()
							}
							return nil
						}
					}
					w := clocked(d, upstream)
					l := w.pipeline()
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					first, second := begin(ctx, l, "A-1"), begin(ctx, l, "A-2")
					if lost {
						cancel()
					} else {
						w.stop()
					}
					synctest.Wait()
					for _, over := range []<-chan error{first, second} {
						select {
						case err := <-over:
							if delay, again := isLater(err); !again || delay > 0 && d.back.IsZero() {
								t.Errorf("ends with %v, to run after %s", err, delay)
							}
						default:
							t.Fatal("waits on")
						}
					}
					if n := len(d.sent); n != 0 {
						t.Errorf("%d calls were sent", n)
					}
					if last := d.log[len(d.log)-1]; fmt.Sprint(last.at, " ", last.what) != tt.last {
						t.Errorf("ends with %v, want %q", last, tt.last)
					}
				})
			})
		}
	}
}

func TestAdmit_AsksNothingOnceTheWorkerDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newScript(granted)
		w := clocked(d, d.upstream())
		w.stop()
		w.gate.closed.Store(true)
		for range 30 { // a select between ready cases is random
			if delay, again := isLater(<-begin(t.Context(), w.pipeline(), "A-1")); !again || delay != 0 {
				t.Fatalf("runs again after %s", delay)
			}
		}
		d.expect(t)
	})
}

func TestAdmit_FreesItsPlaceAfterAPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newScript(granted)
		panics := true
		d.fault = func(string) *Fault {
			if panics {
				panic("it cannot be")
			}
			return nil
		}
		l := clocked(d, d.upstream()).pipeline()
		if _, again := isLater(<-begin(t.Context(), l, "A-1")); !again {
			t.Error("it does not run again")
		}
		panics = false
		over := begin(t.Context(), l, "A-2")
		select {
		case err := <-over:
			if err != nil {
				t.Error(err)
			}
		default:
			t.Fatal("the next one waits for ever")
		}
	})
}

func TestAdmit_KeepsAutoConcurrencyWhenCallsHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		held := granted
		held.Wait = 10 * time.Millisecond
		d := newScript(held)
		upstream := d.upstream().(stub)
		out, most := 0, 0
		upstream.create = func(context.Context, Attempt) (Link, *Fault) {
			d.mu.Lock()
			out++
			most = max(most, out)
			d.mu.Unlock()
			<-time.After(time.Minute)
			d.mu.Lock()
			out--
			d.mu.Unlock()
			return Link{}, &Fault{Kind: TimedOut}
		}
		w := clocked(d, upstream)
		w.cfg.Calls.Auto = true
		l := w.pipeline()
		l.call.limit.setRate(1)
		var all []<-chan error
		for i := range 20 {
			all = append(all, begin(t.Context(), l, fmt.Sprintf("A-%d", i)))
		}
		for _, over := range all {
			<-over
		}
		if took := time.Since(d.begun); most != leastSlots || took < 4*time.Minute || took > 5*time.Minute {
			t.Errorf("%d calls were out at a time, 20 took %s", most, took)
		}
	})
}
