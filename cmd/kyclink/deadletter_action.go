package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/time/rate"

	"github.com/kyclink/kyclink/internal/action"
	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/operator"
)

// listAction is a command that changes entries of a list: those with given IDs itself, and
// those that a filter selects as an [action.Action], which workers continue.
type listAction[T any] struct {
	*deadLetters[T]
	consent
	kind                      action.Kind
	use, short, long, example string // use is empty if it takes no IDs
	noRate                    bool   // has no --rate
	final                     bool   // cannot be undone, and needs confirmation
	// do changes an entry, unless it has changed since it was read.
	do func(op *operator.Operator, ctx context.Context, entry T) (now T, changed bool, err error)

	dryRun, asJSON bool
	rate           string
	audited        []string // name and target for the audit trail, if they are not those of the action
}

// actionCommand returns the command of an action.
func (l *deadLetters[T]) actionCommand(a listAction[T]) *cobra.Command {
	a.deadLetters = l
	cmd := &cobra.Command{
		Use: a.use + " [ID]...", Short: a.short, Long: a.long + "\n\n" + actionHelp, Example: a.example,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			a.IDs = args
			return a.run(cmd)
		},
	}
	a.deadLetters.flags(cmd)
	cmd.Flags().BoolVar(&a.all, "all", false, "every "+a.noun+"; excludes IDs and the other conditions")
	a.flags(cmd)
	return cmd
}

// actionHelp describes how the entries that a filter selects are changed.
const actionHelp = `Without IDs, the command starts an action and carries it out. If the command is
interrupted, running workers continue the action; see "kyclink actions".`

// flags adds the flags of the action itself.
func (a *listAction[T]) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&a.dryRun, "dry-run", false, "list what is selected, and change nothing")
	shown := "print the action when it has ended as JSON, and nothing if no entry matches"
	if a.use != "" { // it takes IDs
		shown += "; with IDs, print each changed one, as it is after the change, as a line of JSON"
	}
	cmd.Flags().BoolVar(&a.asJSON, "json", false, shown)
	if !a.noRate {
		cmd.Flags().StringVar(&a.rate, "rate", "", "at most `RATE`, such as 50/s (default "+action.DefaultRate+")")
	}
	if a.final {
		a.flag(cmd)
	}
}

func (a *listAction[T]) run(cmd *cobra.Command) error {
	if err := a.deadLetters.check(cmd); err != nil {
		return err
	}
	if a.final && !a.dryRun {
		if err := a.consent.check(cmd); err != nil {
			return err
		}
	}
	pace, err := admission.ParseRate(cmp.Or(a.rate, action.DefaultRate))
	if err != nil {
		return usageError(cmd, fmt.Errorf("--rate: %w", err))
	}
	return withShared(cmd, func(e *engine) error {
		switch {
		case a.dryRun:
			n, err := a.print(cmd, e.operator(), a.asJSON)
			fmt.Fprintf(cmd.ErrOrStderr(), "kyclink: %s would be %s\n", count(n), changes(a.kind).verb)
			return err
		case len(a.IDs) > 0:
			return a.changeIDs(cmd, e, rate.NewLimiter(rate.Limit(float64(pace.N)/pace.Per.Seconds()), 1))
		}
		return a.start(cmd, e)
	})
}

// start starts the action for the selected entries, and follows it.
func (a *listAction[T]) start(cmd *cobra.Command, e *engine) error {
	ctx, actions := cmd.Context(), action.NewStore(e.rdb, e.cfg.Account)
	what, err := a.request(ctx, e.operator())
	if err != nil {
		return stopped(ctx, err)
	}
	if a.Before == "" {
		running, ok, err := actions.Running(ctx, what)
		if err != nil {
			return stopped(ctx, err)
		}
		if ok {
			return a.followOther(cmd, e, running)
		}
	}
	plan, err := actions.Plan(ctx, what)
	if wrong, ok := errors.AsType[*action.InvalidError](err); ok {
		return usageError(cmd, fmt.Errorf("--%s %s", strings.TrimPrefix(wrong.Key, "filter."), wrong.Message))
	}
	if err != nil {
		return stopped(ctx, err)
	}
	if err := a.ask(cmd, plan.Count); err != nil {
		return err
	}
	if err := a.audit(ctx, e); err != nil {
		return err
	}
	if plan.Count+plan.Unreadable == 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "kyclink: 0 %s\n", changes(a.kind).verb)
		return nil
	}
	started, err := actions.Start(ctx, plan, plan.Token, whoami())
	if _, busy := errors.AsType[*action.BusyError](err); busy {
		return fmt.Errorf("%w; to list them: kyclink actions list", err)
	}
	if same, ok := errors.AsType[*action.SameError](err); ok {
		return withActionOf(ctx, e, same.ID, func(running action.Action) error { return a.followOther(cmd, e, running) })
	}
	if err != nil {
		return stopped(ctx, err)
	}
	return followAction(cmd, e, started, a.asJSON, true)
}

// followOther follows a running action that changes the same entries.
func (a *listAction[T]) followOther(cmd *cobra.Command, e *engine, running action.Action) error {
	fmt.Fprintf(cmd.ErrOrStderr(), "kyclink: action %s by %s does this already, at %s; it is continued, without what came to the list after its start\n",
		running.ID, running.By, running.Rate)
	return followAction(cmd, e, running, a.asJSON, false)
}

// request returns what the flags select.
func (a *listAction[T]) request(ctx context.Context, op *operator.Operator) (r action.Request, err error) {
	r = action.Request{Kind: a.kind, Rate: a.rate, Filter: action.Filter{
		All: a.String() == "--all", Reason: a.Reason, Batch: a.Batch, Host: a.Host,
	}}
	if a.Batch != "" { // its error names similar batches
		if _, err = op.BatchNumber(ctx, a.Batch); err != nil {
			return r, err
		}
	}
	now, err := op.Now(ctx)
	if err == nil && a.Since != "" {
		r.Filter.Since, err = operator.ParseTime(a.Since, now)
	}
	if err == nil && a.Before != "" {
		r.Filter.Before, err = operator.ParseTime(a.Before, now)
	}
	return r, err
}

// ask asks for confirmation to change n entries, if it cannot be undone.
func (a *listAction[T]) ask(cmd *cobra.Command, n int) error {
	if !a.final || a.yes || n == 0 {
		return nil
	}
	return a.get(cmd, fmt.Sprintf("%s will be %s. This cannot be undone. Continue?", number(n, a.noun), changes(a.kind).verb))
}

func (a *listAction[T]) audit(ctx context.Context, e *engine) error {
	if len(a.audited) > 0 {
		return e.audit(ctx, a.audited[0], a.audited[1:]...)
	}
	return e.audit(ctx, a.kind.Audited(), a.Targets()...)
}

// changeIDs changes the entries with the given IDs, and prints at the end how many it
// changed, even if it is interrupted.
func (a *listAction[T]) changeIDs(cmd *cobra.Command, e *engine, limit *rate.Limiter) error {
	ctx, op := cmd.Context(), e.operator()
	if a.final && !a.yes {
		n, err := a.count(ctx, op)
		if err != nil {
			return stopped(ctx, err)
		}
		if err := a.ask(cmd, n); err != nil {
			return err
		}
	}
	if err := a.audit(ctx, e); err != nil {
		return err
	}
	m := &missing{w: cmd.ErrOrStderr()}
	n, unchanged, err := a.apply(cmd, op, limit, m)
	summary := changedSummary(a.kind, n, unchanged+m.skipped, m.unreadable)
	if err != nil {
		return incomplete(ctx, err, summary)
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "kyclink: %s\n", summary)
	return m.err()
}

// count returns how many entries are selected.
func (a *listAction[T]) count(ctx context.Context, op *operator.Operator) (n int, err error) {
	pages, err := a.read(ctx, op, &missing{w: io.Discard})
	if err != nil {
		return 0, err
	}
	for page, err := range pages {
		if err != nil {
			return n, err
		}
		n += len(page)
	}
	return n, nil
}

// apply changes the selected entries, one after the other. An entry that was begun is
// finished and counted.
func (a *listAction[T]) apply(cmd *cobra.Command, op *operator.Operator, limit *rate.Limiter, m *missing) (done, unchanged int, err error) {
	ctx := cmd.Context()
	pages, err := a.read(ctx, op, m)
	if err != nil {
		return 0, 0, err
	}
	for page, err := range pages {
		if err != nil {
			return done, unchanged, err
		}
		for _, entry := range page {
			if err := limit.Wait(ctx); err != nil {
				return done, unchanged, errors.Join(err, ctx.Err())
			}
			whole := context.WithoutCancel(ctx)
			now, changed, err := a.do(op, whole, entry)
			switch {
			case err != nil:
				return done, unchanged, err
			case !changed:
				unchanged++
				continue
			}
			done++
			if !a.asJSON {
				continue
			}
			shown, err := a.show(whole, op, now)
			if err == nil {
				err = printJSON(cmd.OutOrStdout(), shown)
			}
			if err != nil {
				return done, unchanged, err
			}
		}
	}
	return done, unchanged, nil
}
