package lifecycle

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
)

var errAway = errors.New("nobody answers")

// fatalError ends the worker.
type fatalError struct{ error }

func (fatalError) Fatal() bool { return true }

func TestPersist_RetriesUntilItSucceeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, tries := New(zap.NewNop()), 0
		l.Drain() // which interrupts no recording
		err := l.Persist(t.Context(), func(context.Context) error {
			if tries++; tries < 5 {
				return errAway
			}
			return nil
		})
		if err != nil || tries != 5 {
			t.Errorf("%d tries, %v", tries, err)
		}
	})
}

func TestPersist_GivesUpWhenTheWorkerEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(zap.NewNop())
		begun := time.Now()
		time.AfterFunc(10*time.Second+time.Millisecond, l.End)
		if err := l.Persist(t.Context(), func(context.Context) error { return errAway }); !errors.Is(err, errAway) {
			t.Errorf("it ended with %v", err)
		}
		if took := time.Since(begun); took > 11*time.Second {
			t.Errorf("it gave up after %s", took)
		}
	})
}

func TestPersist_EndsTheWorkerAfterAFatalError(t *testing.T) {
	l := New(zap.NewNop())
	fatal := fatalError{errors.New("the account is of the other kind")}
	if err := l.Persist(t.Context(), func(context.Context) error { return fatal }); !errors.Is(err, fatal) {
		t.Errorf("it ended with %v", err)
	}
	l.Fail(errors.New("a later error")) // only the first counts
	if err := <-l.Failure(); !errors.Is(err, fatal) {
		t.Errorf("the worker fails with %v", err)
	}
}

func TestLifecycle_InterruptsWaitingWhenItDrains(t *testing.T) {
	for name, wait := range map[string]func(context.Context, *Lifecycle) bool{
		"sleep":   func(ctx context.Context, l *Lifecycle) bool { return l.Sleep(ctx, time.Hour) },
		"acquire": func(ctx context.Context, l *Lifecycle) bool { return l.Acquire(ctx, make(chan struct{})) },
		"step": func(ctx context.Context, l *Lifecycle) bool {
			ctx, cancel := l.UntilDrain(ctx)
			defer cancel()
			<-ctx.Done()
			return false
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := New(zap.NewNop())
			begun := time.Now()
			time.AfterFunc(time.Second, l.Drain)
			if wait(t.Context(), l) || time.Since(begun) != time.Second || !l.Stopped(t.Context()) {
				t.Errorf("%s: it waited %s", name, time.Since(begun))
			}
		})
	}
}
