package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/time/rate"

	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/delivery"
)

// callbacksAct is what a person decides for callbacks that were given up.
type callbacksAct struct {
	action                    string // in the audit trail
	use, short, long, example string
	done                      string // as in "12 hidden"
	// do is false where it is another matter by now, and was left as it is.
	do func(ctx context.Context, d desk, one delivery.Delivery) (now delivery.Delivery, ok bool, err error)
}

type callbacksOptions struct {
	callbacksAct
	callbackPick
	dryRun, asJSON bool
	pace           string
}

func newCallbacksAct(a callbacksAct) *cobra.Command {
	o := &callbacksOptions{callbacksAct: a}
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
	cmd.Flags().BoolVar(&o.all, "all", false, "all that were given up")
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "only list which they are")
	cmd.Flags().BoolVar(&o.asJSON, "json", false, "print each that it acts on as a line of JSON")
	cmd.Flags().StringVar(&o.pace, "rate", "", "how many, such as 50/s (default: as fast as it goes)")
	return cmd
}

func (o *callbacksOptions) run(cmd *cobra.Command) error {
	if err := o.check(cmd); err != nil {
		return err
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
		if !o.dryRun {
			targets := distinct(o.ids)
			if len(targets) == 0 {
				targets = []string{chosenBy("host", o.host, "reason", o.reason, "batch", o.batch, "since", o.since, "before", o.before)}
			}
			if err := e.audit(cmd.Context(), o.action, targets...); err != nil {
				return err
			}
			return o.apply(cmd, e, limit)
		}
		n, err := o.list(cmd, e, o.asJSON)
		fmt.Fprintf(cmd.ErrOrStderr(), "kyclink: %d would be %s\n", n, o.done)
		return err
	})
}

// apply acts on what is meant, and says in its last line on how much, also where
// it was broken off.
func (o *callbacksOptions) apply(cmd *cobra.Command, e *engine, limit *rate.Limiter) error {
	ctx, d := cmd.Context(), e.desk()
	t := newTally(os.Stderr, onTerminal() && !o.asJSON, o.done)
	defer t.stop()
	none := &without{w: t}
	err := o.each(ctx, e, d, limit, none, func(one delivery.Delivery) error {
		now, ok, err := o.do(context.WithoutCancel(ctx), d, one)
		if err != nil {
			return err
		}
		t.count(ok)
		if !ok || !o.asJSON {
			return nil
		}
		stories, err := d.tellDeliveries(ctx, []delivery.Delivery{now})
		if err != nil {
			return err
		}
		return t.print(cmd.OutOrStdout(), stories[0])
	})
	t.stop()
	said := fmt.Sprintf("%d %s", t.acted, o.done)
	if t.changed > 0 {
		said += fmt.Sprintf("; %d skipped: under way already, or no longer given up", t.changed)
	}
	if err := concluded(cmd, err, said); err != nil {
		return err
	}
	return none.err()
}

func (o *callbacksOptions) each(ctx context.Context, e *engine, d desk, limit *rate.Limiter, none *without, do func(delivery.Delivery) error) error {
	pages, err := o.chosen(ctx, e, d, none.see)
	if err != nil {
		return err
	}
	return severally(ctx, pages, limit, do)
}
