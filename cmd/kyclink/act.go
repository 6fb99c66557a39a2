package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/linktask"
	"github.com/kyclink/kyclink/internal/request"
)

// act is what a person decides for requests of a shelf.
type act struct {
	action                    string // in the audit trail
	use, short, long, example string
	done                      string // as in "12 retried"
	paced                     bool   // has --rate
	final                     bool   // it cannot be undone: a person is asked first
	// do acts on a request as it was read. ok is false where it is another one
	// by now, and was left as it is.
	do func(ctx context.Context, d desk, r request.Record) (now request.Record, ok bool, err error)
}

// actors is how many requests are acted on at a time where there is no pace.
const actors = 16

type actOptions struct {
	act
	pick
	consent
	dryRun, asJSON bool
	pace           string
	target         string // in the audit trail, where it is not what was chosen by
}

func (s shelf) newAct(a act) *cobra.Command {
	o := &actOptions{act: a, pick: pick{shelf: s}}
	cmd := &cobra.Command{
		Use:     a.use + " [ID]...",
		Short:   a.short,
		Long:    a.long,
		Example: a.example,
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.ids = args
			return o.run(cmd)
		},
	}
	o.flags(cmd)
	cmd.Flags().BoolVar(&o.all, "all", false, fmt.Sprintf("all %s requests", s.state))
	o.actFlags(cmd)
	return cmd
}

// actFlags are how it is done, whatever is meant.
func (o *actOptions) actFlags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "only list which they are")
	cmd.Flags().BoolVar(&o.asJSON, "json", false, "print each, as it is afterwards, as a line of JSON")
	if o.paced {
		cmd.Flags().StringVar(&o.pace, "rate", "", "how many, such as 50/s (default: as fast as it goes)")
	}
	if o.final {
		o.flag(cmd)
	}
}

func (o *actOptions) run(cmd *cobra.Command) error {
	if err := o.pick.check(cmd); err != nil {
		return err
	}
	asks := o.final && !o.dryRun
	if asks {
		if err := o.consent.check(cmd); err != nil {
			return err
		}
	}
	limit := rate.NewLimiter(rate.Inf, 1)
	if o.pace != "" {
		pace, err := admission.ParseRate(o.pace)
		if err != nil {
			return usageError(cmd, fmt.Errorf("--rate: %w", err))
		}
		limit.SetLimit(rate.Limit(float64(pace.N) / pace.Per.Seconds()))
	}
	return withShared(cmd, func(e *engine) error {
		if asks {
			if err := o.ask(cmd, e); err != nil {
				return err
			}
		}
		if !o.dryRun {
			if err := e.audit(cmd.Context(), o.action, o.targets()...); err != nil {
				return err
			}
			return o.apply(cmd, e, limit)
		}
		n, err := o.list(cmd, e, o.asJSON)
		fmt.Fprintf(cmd.ErrOrStderr(), "kyclink: %d would be %s\n", n, o.done)
		return err
	})
}

// targets are what the audit trail says: the ids, or how they were chosen.
func (o *actOptions) targets() []string {
	switch {
	case o.target != "":
		return []string{o.target}
	case len(o.ids) > 0:
		return distinct(o.ids)
	}
	return []string{chosenBy("reason", o.reason, "batch", o.batch, "since", o.since, "before", o.before)}
}

// chosenBy writes flags, each name followed by its value, as they were given.
func chosenBy(flags ...string) string {
	var given []string
	for flag := range slices.Chunk(flags, 2) {
		if name, value := flag[0], flag[1]; value != "" {
			given = append(given, "--"+name+" "+value)
		}
	}
	if len(given) == 0 {
		return "--all"
	}
	return strings.Join(given, " ")
}

// ask says how many requests are meant. Where there are none there is nothing to ask.
func (o *actOptions) ask(cmd *cobra.Command, e *engine) error {
	if o.yes {
		return nil
	}
	pages, err := o.chosen(cmd.Context(), e, e.desk(), func(string, request.State) {})
	if err != nil {
		return err
	}
	n, err := eachPage(cmd.Context(), pages, func([]request.Record) error { return nil })
	if err != nil || n == 0 {
		return err
	}
	return o.get(cmd, fmt.Sprintf("Let %s be %s, for good?", number(n, string(o.state)+" request"), o.done))
}

// apply acts on what is meant, and says in its last line on how much, also where
// it was broken off.
func (o *actOptions) apply(cmd *cobra.Command, e *engine, limit *rate.Limiter) error {
	ctx, d := cmd.Context(), e.desk()
	t := newTally(os.Stderr, onTerminal() && !o.asJSON, o.done)
	defer t.stop()
	astray := &astray{w: t, shelf: o.shelf}
	err := o.each(ctx, e, d, limit, astray, func(r request.Record) error {
		now, ok, err := o.do(ctx, d, r)
		if err != nil {
			return err
		}
		t.count(ok)
		if !ok || !o.asJSON {
			return nil
		}
		link, err := d.link(ctx, now)
		if err != nil {
			return err
		}
		return t.print(cmd.OutOrStdout(), link)
	})
	t.stop()
	said := fmt.Sprintf("%d %s", t.acted, o.done)
	if n := t.changed + astray.elsewhere; n > 0 {
		said += fmt.Sprintf("; %d skipped: not %s, or no longer so", n, o.state)
	}
	if err := concluded(cmd, err, said); err != nil {
		return err
	}
	return astray.err()
}

// concluded says in a command's last line how much it did; where it was broken off,
// that is in the error.
func concluded(cmd *cobra.Command, err error, said string) error {
	if s, ok := errors.AsType[*signalError](context.Cause(cmd.Context())); ok && err != nil {
		return &codeError{exitInterrupted + int(s.signal), fmt.Errorf("%w: %s; run the same command again to go on", s, said)}
	}
	if err != nil {
		return fmt.Errorf("%w\n%s before that; run the same command again to go on", err, said)
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "kyclink: %s\n", said)
	return nil
}

// each calls do for every request that is meant.
func (o *actOptions) each(ctx context.Context, e *engine, d desk, limit *rate.Limiter, astray *astray, do func(request.Record) error) error {
	pages, err := o.chosen(ctx, e, d, astray.see)
	if err != nil {
		return err
	}
	return severally(ctx, pages, limit, do)
}

// severally calls do for all that pages have, several at a time. A stop is noticed
// between two: one that was begun is seen through, so that it is counted.
func severally[T any](ctx context.Context, pages iter.Seq2[[]T, error], limit *rate.Limiter, do func(T) error) error {
	for page, err := range pages {
		if err != nil {
			return err
		}
		group, going := errgroup.WithContext(ctx)
		group.SetLimit(actors)
		for _, one := range page {
			if err := limit.Wait(going); err != nil {
				break
			}
			group.Go(func() error { return do(one) })
		}
		if err := errors.Join(group.Wait(), ctx.Err()); err != nil {
			return err
		}
	}
	return nil
}

// retry lets a request go on, and enqueues the task of an interactive one. Where
// that is lost, the sweep of the workers enqueues it.
func retry(ctx context.Context, d desk, r request.Record) (request.Record, bool, error) {
	ctx = context.WithoutCancel(ctx)
	now, ok, err := d.Again(ctx, r)
	if err == nil && ok && now.State == request.Queued {
		err = linktask.Enqueue(ctx, d.queue, d.account, now.Lane, now.Ref())
	}
	return now, ok, err
}
