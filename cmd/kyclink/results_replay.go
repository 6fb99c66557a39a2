package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/time/rate"

	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/ledger"
)

// replay is what is to be published again, and how fast.
type replay struct {
	ids                []string
	batch, since, pace string
	anew, asJSON       bool
}

func newResultsReplay() *cobra.Command {
	r := &replay{}
	cmd := &cobra.Command{
		Use:   "replay",
		Short: "publish events again",
		Long: `replay publishes the ends of requests again, as the ledger keeps them: with the same
event ids, and marked as replayed, so that whoever had one knows it. It brings back
what went because of the cap, or what a receiver lost. Ends of earlier runs and
generations are among them, with today's numbers of attempts; what is held is no end.

It waits while a live group is half a cap behind. Broken off, the same command goes on
where it was, for an hour.`,
		Example: `  kyclink results replay --id A-1001
  kyclink results replay --batch spring --rate 200/s
  kyclink results replay --since 2026-12-01T00:00:00Z`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			limit, err := r.check(cmd)
			if err != nil {
				return err
			}
			return withShared(cmd, func(e *engine) error { return r.run(cmd, e, limit) })
		},
	}
	cmd.Flags().StringArrayVar(&r.ids, "id", nil, "of this application id; may be repeated")
	cmd.Flags().StringVar(&r.batch, "batch", "", "of this batch")
	cmd.Flags().StringVar(&r.since, "since", "", "only ends at or after a time such as 2026-12-01T00:00:00Z, or an age such as 2h")
	cmd.Flags().StringVar(&r.pace, "rate", "1000/s", "how many")
	cmd.Flags().BoolVar(&r.anew, "anew", false, "begin again, also where it was broken off")
	cmd.Flags().BoolVar(&r.asJSON, "json", false, "print how many as JSON")
	return cmd
}

func (r *replay) check(cmd *cobra.Command) (*rate.Limiter, error) {
	switch {
	case len(r.ids) > 0 && r.batch != "":
		return nil, usageError(cmd, errors.New("--id and --batch contradict each other; give one of them"))
	case len(r.ids) == 0 && r.batch == "" && r.since == "":
		return nil, usageError(cmd, errors.New("say which events: --batch, --since or --id"))
	}
	if r.since != "" {
		if _, err := instant(r.since, time.Now()); err != nil {
			return nil, usageError(cmd, fmt.Errorf("--since: %w", err))
		}
	}
	pace, err := admission.ParseRate(r.pace)
	if err != nil {
		return nil, usageError(cmd, fmt.Errorf("--rate: %w", err))
	}
	return rate.NewLimiter(rate.Limit(float64(pace.N)/pace.Per.Seconds()), ledger.ReplayMost), nil
}

func (r *replay) run(cmd *cobra.Command, e *engine, limit *rate.Limiter) error {
	ctx := cmd.Context()
	slices.Sort(r.ids)
	r.ids = slices.Compact(r.ids)
	book := ledger.New(e.rdb, ledger.Config{Account: e.cfg.Account})
	which := ledger.Replay{Batch: -1, IDs: r.ids, Name: strings.Join([]string{r.since, r.batch}, " ")}
	if r.batch != "" {
		var err error
		if which.Batch, err = batchNumber(ctx, book, r.batch); err != nil {
			return err
		}
	}
	targets := r.ids
	if len(targets) == 0 {
		targets = []string{chosenBy("batch", r.batch, "since", r.since)}
	}
	if err := e.audit(ctx, "results.replay", targets...); err != nil {
		return err
	}
	far, err := r.begin(cmd, e, book, which)
	if err != nil {
		return err
	}
	before := far.Published
	p := &pacer{book: book, limit: limit, tell: func(format string, args ...any) {
		fmt.Fprintf(cmd.ErrOrStderr(), "kyclink: "+format+"\n", args...)
	}, said: time.Now(), published: before}
	far, err = book.Replay(ctx, which, far, func(n int) error { return p.wait(ctx, n) })
	said := fmt.Sprintf("%d published again", far.Published)
	if before > 0 {
		said += fmt.Sprintf(", %d of them before", before)
	}
	if s, ok := errors.AsType[*signalError](context.Cause(ctx)); ok && err != nil {
		return &codeError{exitInterrupted + int(s.signal), fmt.Errorf("%w: %s; run the same command again to go on", s, said)}
	}
	if err != nil {
		return fmt.Errorf("%w\n%s before that; run the same command again to go on", err, said)
	}
	if len(r.ids) > 0 && far.Published == 0 {
		return fmt.Errorf("no end of %s is kept in account %q; kyclink show tells where a request stands", strings.Join(r.ids, ", "), e.cfg.Account)
	}
	if r.asJSON {
		return printJSON(cmd.OutOrStdout(), map[string]int{"published": far.Published})
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "kyclink: %s\n", said)
	return nil
}

// begin finds out where to go on.
func (r *replay) begin(cmd *cobra.Command, e *engine, book *ledger.Ledger, which ledger.Replay) (ledger.Replayed, error) {
	ctx := cmd.Context()
	far, goesOn, err := book.ReplayedSoFar(ctx, which)
	if err != nil {
		return far, err
	}
	if goesOn && !r.anew && len(r.ids) == 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "kyclink: going on after %s, where this was broken off; --anew begins again\n", number(far.Published, "event"))
		return far, nil
	}
	far = ledger.Replayed{}
	if r.since != "" {
		now, err := book.Keys().Clock(ctx, e.rdb).Time()
		if err != nil {
			return far, err
		}
		far.Since, err = instant(r.since, now)
		return far, err
	}
	return far, nil
}

// pacer lets events be published at a rate, and while the groups keep up.
type pacer struct {
	book      *ledger.Ledger
	limit     *rate.Limiter
	tell      func(format string, args ...any)
	looked    time.Time
	said      time.Time
	published int
}

const lookPause = time.Second // between looks at the groups

func (p *pacer) wait(ctx context.Context, n int) error {
	for waits := false; time.Since(p.looked) >= lookPause; {
		results, err := p.book.Results(ctx)
		if err != nil {
			return err
		}
		g, _ := results.Slowest()
		if results.Cap == 0 || g.Unacknowledged() <= results.Cap/2 {
			p.looked = time.Now()
			break
		}
		if !waits {
			p.tell("waiting for group %s, which has %s to acknowledge: more might push some of them out", g.Group, number(g.Unacknowledged(), "event"))
			waits = true
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lookPause):
		}
	}
	if err := p.limit.WaitN(ctx, n); err != nil {
		return err
	}
	if p.published += n; time.Since(p.said) >= linePause {
		p.said = time.Now()
		p.tell("%s so far", number(p.published, "event"))
	}
	return ctx.Err()
}
