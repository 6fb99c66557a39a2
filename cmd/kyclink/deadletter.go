package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/time/rate"

	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/operator"
	"github.com/kyclink/kyclink/internal/terminal"
)

// deadLetters is a list of entries that need a decision by a person: failed requests,
// held requests, or given-up deliveries. It has the commands of the list.
type deadLetters[T any] struct {
	operator.Selection
	all     bool
	are     string // as in "no request is failed for REASON"
	noun    string // such as "failed request"
	ids     string // such as "application IDs"
	came    string // as in "only those that failed before TIME"
	hosts   bool   // entries can be selected by host
	reasons []fault.Reason
	changed string // why an entry of the list was skipped

	read func(ctx context.Context, op *operator.Operator, m *missing) (iter.Seq2[[]T, error], error)
	show func(ctx context.Context, op *operator.Operator, entry T) (row, error)
}

// row is an entry as it is printed: as JSON, or as columns separated by tabs.
type row interface{ columns() string }

// missing reports given IDs that are not on the list.
type missing struct {
	w       io.Writer
	unknown int // if any, the command fails
	skipped int
}

func (m *missing) err() error {
	if m.unknown == 0 {
		return nil
	}
	return &codeError{code: exitError}
}

// flags adds the flags that select entries.
func (l *deadLetters[T]) flags(cmd *cobra.Command) {
	if l.hosts {
		cmd.Flags().StringVar(&l.Host, "host", "", "only those to `HOST`, such as shop.example or shop.example:8443")
	}
	cmd.Flags().StringVar(&l.Reason, "reason", "", "only those with `REASON`")
	cmd.Flags().StringVar(&l.Batch, "batch", "", "only those of batch `NAME`")
	when := "only those that " + l.came + " %s `TIME`, such as 2026-12-01T00:00:00Z, or an age such as 2h"
	cmd.Flags().StringVar(&l.Since, "since", "", fmt.Sprintf(when, "at or after"))
	cmd.Flags().StringVar(&l.Before, "before", "", fmt.Sprintf(when, "before"))
}

// check refuses wrong flags before anything is read.
func (l *deadLetters[T]) check(cmd *cobra.Command) error {
	if l.Reason != "" && !slices.Contains(l.reasons, fault.Reason(l.Reason)) {
		return usageError(cmd, fmt.Errorf("--reason: no %s for %q; use one of %v", l.are, l.Reason, l.reasons))
	}
	for flag, text := range map[string]string{"since": l.Since, "before": l.Before} {
		if _, err := operator.ParseTime(text, time.Now()); text != "" && err != nil {
			return usageError(cmd, fmt.Errorf("--%s: %w", flag, err))
		}
	}
	if cmd.Flags().Lookup("all") == nil { // the command only lists, or has a batch as its argument
		return nil
	}
	switch given := l.String() != "--all" || len(l.IDs) > 0; {
	case l.all && len(l.IDs) > 0:
		return usageError(cmd, fmt.Errorf("--all and %s exclude each other; give one of them", l.ids))
	case !given && !l.all:
		host := ""
		if l.hosts {
			host = "--host, "
		}
		return usageError(cmd, fmt.Errorf("no %s is selected; give %s, %s--reason, --batch, --since, --before, or --all", l.noun, l.ids, host))
	}
	return nil
}

// listCommand returns the command that prints the list.
func (l *deadLetters[T]) listCommand(short, long, example string) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list [ID]...", Short: short, Long: long, Example: example,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			l.IDs = args
			if err := l.check(cmd); err != nil {
				return err
			}
			return withOperator(cmd, func(op *operator.Operator) error {
				_, err := l.print(cmd, op, asJSON)
				return err
			})
		},
	}
	l.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print each as a line of JSON")
	return cmd
}

// print prints the selected entries as it reads them, and returns how many there are.
func (l *deadLetters[T]) print(cmd *cobra.Command, op *operator.Operator, asJSON bool) (n int, err error) {
	ctx, m := cmd.Context(), &missing{w: cmd.ErrOrStderr()}
	pages, err := l.read(ctx, op, m)
	if err != nil {
		return 0, stopped(ctx, err)
	}
	t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	for page, err := range pages {
		for _, entry := range page {
			var shown row
			if shown, err = l.show(ctx, op, entry); err != nil {
				break
			}
			if asJSON {
				err = printJSON(cmd.OutOrStdout(), shown)
			} else {
				_, err = fmt.Fprintln(t, shown.columns())
			}
			if err != nil {
				break
			}
		}
		if err = errors.Join(err, t.Flush()); err != nil {
			return n, stopped(ctx, err)
		}
		n += len(page)
	}
	return n, m.err()
}

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
			fmt.Fprintf(cmd.ErrOrStderr(), "kyclink: %d would be %s\n", n, a.verb)
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
	summary := fmt.Sprintf("%d %s", n, a.verb)
	if skipped += m.skipped; skipped > 0 {
		summary += fmt.Sprintf("; %d skipped: %s", skipped, a.changed)
	}
	if err != nil {
		return incomplete(ctx, err, summary)
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "kyclink: %s\n", summary)
	return m.err()
}
