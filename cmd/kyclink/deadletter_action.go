package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/time/rate"

	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/operator"
	"github.com/kyclink/kyclink/internal/terminal"
)

// action is an operator action on the entries of a list.
type action[T any] struct {
	*deadLetters[T]
	consent
	name                      string // for the audit trail
	use, short, long, example string
	verb                      string // as in "12 retried"
	noRate                    bool   // has no --rate
	final                     bool   // cannot be undone, and needs confirmation
	// do changes an entry, unless it has changed since it was read.
	do func(op *operator.Operator, ctx context.Context, entry T) (now T, changed bool, err error)

	dryRun, asJSON bool
	rate           string
	target         string // for the audit trail, if it is not the selection
}

// actionCommand returns the command of an action.
func (l *deadLetters[T]) actionCommand(a action[T]) *cobra.Command {
	a.deadLetters = l
	cmd := &cobra.Command{
		Use: a.use + " [ID]...", Short: a.short, Long: a.long, Example: a.example,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			a.IDs = args
			return a.run(cmd)
		},
	}
	a.deadLetters.flags(cmd)
	cmd.Flags().BoolVar(&a.all, "all", false, "all "+a.noun+"s")
	a.flags(cmd)
	return cmd
}

// flags adds the flags of the action itself.
func (a *action[T]) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&a.dryRun, "dry-run", false, "list what is selected, and change nothing")
	cmd.Flags().BoolVar(&a.asJSON, "json", false, "print each changed one, as it is after the change, as a line of JSON")
	if !a.noRate {
		cmd.Flags().StringVar(&a.rate, "rate", "", "at most `RATE`, such as 50/s (default: no limit)")
	}
	if a.final {
		a.flag(cmd)
	}
}

func (a *action[T]) run(cmd *cobra.Command) error {
	if err := a.deadLetters.check(cmd); err != nil {
		return err
	}
	asks := a.final && !a.dryRun
	if asks {
		if err := a.consent.check(cmd); err != nil {
			return err
		}
	}
	limit := rate.NewLimiter(rate.Inf, 1)
	if a.rate != "" {
		parsed, err := admission.ParseRate(a.rate)
		if err != nil {
			return usageError(cmd, fmt.Errorf("--rate: %w", err))
		}
		limit.SetLimit(rate.Limit(float64(parsed.N) / parsed.Per.Seconds()))
	}
	return withShared(cmd, func(e *engine) error {
		op := e.operator()
		if a.dryRun {
			n, err := a.print(cmd, op, a.asJSON)
			fmt.Fprintf(cmd.ErrOrStderr(), "kyclink: %s would be %s\n", count(n), a.verb)
			return err
		}
		if asks {
			if err := a.ask(cmd, op); err != nil {
				return err
			}
		}
		targets := a.Targets()
		if a.target != "" {
			targets = []string{a.target}
		}
		if err := e.audit(cmd.Context(), a.name, targets...); err != nil {
			return err
		}
		return a.apply(cmd, op, limit)
	})
}

// ask asks for confirmation unless nothing is selected.
func (a *action[T]) ask(cmd *cobra.Command, op *operator.Operator) error {
	if a.yes {
		return nil
	}
	pages, err := a.read(cmd.Context(), op, &missing{w: io.Discard})
	if err != nil {
		return err
	}
	n := 0
	for page, err := range pages {
		if err != nil {
			return stopped(cmd.Context(), err)
		}
		n += len(page)
	}
	if n == 0 {
		return nil
	}
	return a.get(cmd, fmt.Sprintf("%s will be %s. This cannot be undone. Continue?", number(n, a.noun), a.verb))
}

// apply changes the selected entries, and prints at the end how many it changed, even if
// it is interrupted.
func (a *action[T]) apply(cmd *cobra.Command, op *operator.Operator, limit *rate.Limiter) error {
	ctx := cmd.Context()
	counter := terminal.NewCounter(os.Stderr, onTerminal() && !a.asJSON, a.verb)
	defer counter.Stop()
	m := &missing{w: counter}
	pages, err := a.read(ctx, op, m)
	if err == nil {
		var printing sync.Mutex
		err = operator.Each(ctx, pages, limit, func(ctx context.Context, entry T) error {
			now, changed, err := a.do(op, ctx, entry)
			if err != nil {
				return err
			}
			counter.Count(changed)
			if !changed || !a.asJSON {
				return nil
			}
			shown, err := a.show(ctx, op, now)
			if err != nil {
				return err
			}
			printing.Lock()
			defer printing.Unlock()
			return printJSON(cmd.OutOrStdout(), shown)
		})
	}
	counter.Stop()
	n, skipped := counter.Counts()
	summary := fmt.Sprintf("%s %s", count(n), a.verb)
	if skipped += m.skipped; skipped > 0 {
		summary += fmt.Sprintf("; %s skipped: %s", count(skipped), a.changed)
	}
	if err != nil {
		return incomplete(ctx, err, summary)
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "kyclink: %s\n", summary)
	return m.err()
}
