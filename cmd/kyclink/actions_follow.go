package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/action"
	"github.com/kyclink/kyclink/internal/forecast"
	"github.com/kyclink/kyclink/internal/logging"
	"github.com/kyclink/kyclink/internal/storage"
	"github.com/kyclink/kyclink/internal/terminal"
)

// changeWords describe what a kind of action does: its verb, as in "12 retried", and why it
// skips an entry.
type changeWords struct{ verb, skipped string }

func changes(kind action.Kind) changeWords {
	const notFailed, notHeld, notGivenUp = "not failed, or no longer so", "not held, or no longer so", "being delivered already, or no longer given up"
	switch kind {
	case action.RetryFailed:
		return changeWords{"retried", notFailed}
	case action.DropFailed:
		return changeWords{"hidden", notFailed}
	case action.RetryHeld:
		return changeWords{"retried", notHeld}
	case action.DropHeld:
		return changeWords{"cancelled", notHeld}
	case action.RetryDeliveries:
		return changeWords{"enqueued for a retry", notGivenUp}
	case action.DropDeliveries:
		return changeWords{"hidden", notGivenUp}
	}
	return changeWords{"changed", "changed meanwhile"} // by a newer version
}

// changedSummary says how many entries were changed, skipped, and skipped because they
// cannot be decoded.
func changedSummary(kind action.Kind, done, skipped, unreadable int) string {
	words := changes(kind)
	text := count(done) + " " + words.verb
	if skipped > 0 {
		text += fmt.Sprintf("; %s skipped: %s", count(skipped), words.skipped)
	}
	if unreadable > 0 {
		text += fmt.Sprintf("; %s skipped: damaged, or written by a newer version of kyclink", count(unreadable))
	}
	return text
}

// actionSummary is changedSummary of an action.
func actionSummary(a action.Action) string {
	skipped := a.Counts.Skipped
	return changedSummary(a.Kind, a.Counts.Done, skipped.Changed+skipped.Gone, skipped.Unreadable)
}

const (
	followPause  = 200 * time.Millisecond // between two readings of an action
	leaveTimeout = 5 * time.Second        // for what is done after an interrupt
)

// followAction carries an action out, unless a worker does, and shows its progress until it
// has ended. started says that this command has started it.
func followAction(cmd *cobra.Command, e *engine, a action.Action, asJSON, started bool) error {
	ctx, view := cmd.Context(), newActionView(os.Stderr, onTerminal(), a)
	defer view.End(false)
	runner := action.NewRunner(action.RunnerConfig{
		Redis: e.rdb, Account: e.cfg.Account, Pause: followPause, Log: zap.NewNop(), Limited: logging.Limited(e.log),
	})
	a, err := runner.Follow(ctx, a.ID, view.show)
	view.End(false)
	summary := actionSummary(a)
	if err != nil && ctx.Err() == nil {
		return err
	}
	if err != nil {
		return incompleteHint(ctx, err, summary, leaveAction(ctx, e, a, started))
	}
	if asJSON {
		err = printJSON(cmd.OutOrStdout(), a)
	}
	if a.State == action.Aborted {
		because := ""
		if a.Message != "" {
			because = ": " + a.Message
		}
		return errors.Join(err, fmt.Errorf("%s; then the action was aborted%s", summary, because))
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "kyclink: %s\n", summary)
	if err == nil && a.Counts.Skipped.Unreadable > 0 {
		err = &codeError{code: exitError}
	}
	return err
}

// leaveAction returns what happens to an action whose command was interrupted, and what to
// do. Without a worker, an action that the command has started is ended: otherwise it would
// continue without notice when a worker starts.
func leaveAction(ctx context.Context, e *engine, a action.Action, started bool) string {
	once, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer cancel()
	workers, err := storage.Of(e.rdb, e.cfg.Account).Account.Workers(once)
	switch {
	case err != nil || len(workers.Workers) > 0:
		return fmt.Sprintf("the workers continue the action; to follow it: kyclink actions follow %[1]s; to end it: kyclink actions abort %[1]s", a.ID)
	case started:
		if _, err := action.NewStore(e.rdb, e.cfg.Account).Abort(once, a.ID); err == nil {
			return "no worker is running to continue the action, so that it has ended; " + runAgain
		}
	}
	return fmt.Sprintf("the action continues when a worker runs; to continue it now: kyclink actions follow %[1]s; to end it: kyclink actions abort %[1]s", a.ID)
}

// actionView shows the progress of an action: a bar on a terminal, otherwise a line every
// linePause.
type actionView struct {
	*terminal.Line
	printed time.Time // the last line
	pace    forecast.Throughput
}

func newActionView(out io.Writer, tty bool, a action.Action) *actionView {
	v := &actionView{Line: terminal.NewLine(out, tty), printed: time.Now()}
	v.show(a)
	return v
}

func (v *actionView) show(a action.Action) {
	now, done := time.Now(), a.Counts.Done+a.Counts.Skipped.Total()
	v.pace.Add(now, done)
	speed := ""
	if rate := v.pace.Rate(now, done); rate > 0 && done < a.Counts.Matched {
		speed = rate.String() + "  " + rate.Left(a.Counts.Matched-done)
	}
	v.Draw(func(width int) string {
		after := terminal.Percent(done, a.Counts.Matched) + "  " + speed
		return terminal.WithBar(count(done)+"/"+count(a.Counts.Matched), after, done, a.Counts.Matched, width)
	})
	if !v.Draws() && now.Sub(v.printed) >= linePause {
		v.printed = now
		fmt.Fprintf(v.Line, "kyclink: %s of %s %s; %s\n", count(done), count(a.Counts.Matched), changes(a.Kind).verb, speed)
	}
}
