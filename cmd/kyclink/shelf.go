package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/hibiken/asynq"
	"github.com/spf13/cobra"

	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/ledger"
	"github.com/kyclink/kyclink/internal/linkview"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

// shelf is what waits for a person: the requests that failed, or those that are
// held.
type shelf struct {
	state   request.State
	reasons []fault.Reason // for which a request may be there
}

// pick says which of a shelf's requests are meant.
type pick struct {
	shelf
	ids                          []string
	reason, batch, since, before string
	all                          bool
}

func (p *pick) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.reason, "reason", "", "only those with this reason")
	cmd.Flags().StringVar(&p.batch, "batch", "", "only those of this batch")
	when := fmt.Sprintf("only those that %s %%s then: a time such as 2026-12-01T00:00:00Z, or an age such as 2h", p.verb())
	cmd.Flags().StringVar(&p.since, "since", "", fmt.Sprintf(when, "at or after"))
	cmd.Flags().StringVar(&p.before, "before", "", fmt.Sprintf(when, "before"))
}

func (p *pick) verb() string {
	if p.state == request.Held {
		return "were held"
	}
	return "failed"
}

// check refuses what makes no sense, whatever there is.
func (p *pick) check(cmd *cobra.Command) error {
	if p.reason != "" && !slices.Contains(p.reasons, fault.Reason(p.reason)) {
		return usageError(cmd, fmt.Errorf("--reason: no request is %s for %q; use one of %v", p.state, p.reason, p.reasons))
	}
	if cmd.Flags().Lookup("all") == nil { // it may be a look at everything
		return nil
	}
	switch given := p.reason+p.batch+p.since+p.before != "" || len(p.ids) > 0; {
	case p.all && len(p.ids) > 0:
		return usageError(cmd, errors.New("--all and application ids contradict each other; give one of them"))
	case !given && !p.all:
		return usageError(cmd, fmt.Errorf("say which of the %s requests: application ids, --reason, --batch, --since, --before, or --all", p.state))
	}
	return nil
}

// desk is what the commands work with.
type desk struct {
	*ledger.Ledger
	queue   *asynq.Client
	account string
}

func (e *engine) desk() desk {
	return desk{
		ledger.New(e.rdb, ledger.Config{Account: e.cfg.Account}),
		asynq.NewClientFromRedisClient(e.rdb), e.cfg.Account,
	}
}

func (d desk) link(ctx context.Context, r request.Record) (tasks.Link, error) {
	batch, err := d.BatchName(ctx, r.Batch)
	return linkview.Of(r, batch, time.Now()), err
}

// chosen are the requests that are meant, as they were when they were read, a
// page at a time. What comes to the shelf later is not among them, unless it is named,
// so that an act on all of them ends. other is told of each id that is not on it.
func (p *pick) chosen(ctx context.Context, e *engine, d desk, other func(id string, state request.State)) (iter.Seq2[[]request.Record, error], error) {
	within, err := readWindow(ctx, e, d, p.batch, p.since, p.before)
	if err != nil {
		return nil, err
	}
	named := len(p.ids) > 0
	meant := func(r request.Record) bool {
		return (within.batch < 0 || r.Batch == within.batch) && (p.reason == "" || r.Outcome.Reason == p.reason) &&
			!r.ChangedAt.Before(within.since.Truncate(time.Millisecond)) && (named && p.before == "" || r.ChangedAt.Before(within.before))
	}
	pages := d.Shelved(ctx, p.state, within.since, within.before)
	if named {
		pages = p.named(ctx, d, other)
	}
	return func(yield func([]request.Record, error) bool) {
		for page, err := range pages {
			if !yield(slices.DeleteFunc(page, func(r request.Record) bool { return !meant(r) }), err) {
				return
			}
		}
	}, nil
}

// window is a part of what waits for a person.
type window struct {
	batch         int // -1: any
	since, before time.Time
}

// readWindow reads the flags: what comes later than now is not in it.
func readWindow(ctx context.Context, e *engine, d desk, batch, since, before string) (s window, err error) {
	now, err := d.Keys().Clock(ctx, e.rdb).Time()
	if err != nil {
		return s, fmt.Errorf("read the time: %w", err)
	}
	s = window{batch: -1, before: now.Add(time.Millisecond)}
	for text, t := range map[*string]*time.Time{&since: &s.since, &before: &s.before} {
		if *text == "" {
			continue
		}
		if *t, err = instant(*text, now); err != nil {
			return s, err
		}
	}
	if batch == "" {
		return s, nil
	}
	var known bool
	if s.batch, known, err = d.BatchNumber(ctx, batch); err == nil && !known {
		err = fmt.Errorf("there is no batch %q in account %q", batch, d.account)
	}
	return s, err
}

// distinct are ids in their order, each once.
func distinct(ids []string) []string {
	had := make(map[string]bool, len(ids))
	return slices.DeleteFunc(slices.Clone(ids), func(id string) bool {
		again := had[id]
		had[id] = true
		return again
	})
}

// named reads the requests whose ids were given.
func (p *pick) named(ctx context.Context, d desk, other func(id string, state request.State)) iter.Seq2[[]request.Record, error] {
	return func(yield func([]request.Record, error) bool) {
		for ids := range slices.Chunk(distinct(p.ids), 500) {
			found, err := d.Read(ctx, ids)
			states := map[string]request.State{}
			for _, r := range found {
				states[r.ApplicationID] = r.State
			}
			for _, id := range ids {
				if err == nil && states[id] != p.state {
					other(id, states[id])
				}
			}
			page := slices.DeleteFunc(found, func(r request.Record) bool { return r.State != p.state })
			if !yield(page, err) || err != nil {
				return
			}
		}
	}
}

// instant reads a time, or an age.
func instant(text string, now time.Time) (time.Time, error) {
	if age, err := time.ParseDuration(text); err == nil && age >= 0 {
		return now.Add(-age), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, &codeError{exitUsage, fmt.Errorf("%q is neither a time such as 2026-12-01T00:00:00Z nor an age such as 2h", text)}
	}
	return t, nil
}

// newList is the command that shows a shelf.
func (s shelf) newList(long, example string) *cobra.Command {
	var asJSON bool
	p := &pick{shelf: s}
	cmd := &cobra.Command{
		Use:     "list [ID]...",
		Short:   fmt.Sprintf("list %s requests, the oldest first", s.state),
		Long:    long,
		Example: example,
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			p.ids = args
			if err := p.check(cmd); err != nil {
				return err
			}
			return withShared(cmd, func(e *engine) error {
				_, err := p.list(cmd, e, asJSON)
				return err
			})
		},
	}
	p.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print each as a line of JSON")
	return cmd
}

// list prints what is meant as it reads it, and gives how many there are.
func (p *pick) list(cmd *cobra.Command, e *engine, asJSON bool) (n int, err error) {
	d, ctx := e.desk(), cmd.Context()
	astray := &astray{w: cmd.ErrOrStderr(), shelf: p.shelf}
	pages, err := p.chosen(ctx, e, d, astray.see)
	if err != nil {
		return 0, err
	}
	n, err = eachPage(ctx, pages, func(page []request.Record) error {
		links := make([]tasks.Link, len(page))
		for i, r := range page {
			if links[i], err = d.link(ctx, r); err != nil {
				return err
			}
		}
		return printLinks(cmd.OutOrStdout(), links, asJSON)
	})
	return n, cmp.Or(err, astray.err())
}

// eachPage shows pages as they are read, and gives how many they hold.
func eachPage[T any](ctx context.Context, pages iter.Seq2[[]T, error], show func([]T) error) (n int, err error) {
	for page, err := range pages {
		if err == nil {
			err = show(page)
		}
		if err != nil {
			return n, stopped(ctx, err)
		}
		n += len(page)
	}
	return n, nil
}

func printLinks(w io.Writer, links []tasks.Link, asJSON bool) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, l := range links {
		if asJSON {
			if err := printJSON(w, l); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s, %s\t%s\n", l.ApplicationID, moment(l.EndedAt), l.Batch,
			number(l.Attempts, "attempt"), number(l.PossibleDuplicates, "possible duplicate"), why(l.Reason, l.Message))
	}
	return t.Flush()
}

// astray tells of ids that were given and are not on the shelf.
type astray struct {
	w                  io.Writer
	shelf              shelf
	elsewhere, unknown int
}

func (a *astray) see(id string, state request.State) {
	if state == "" {
		a.unknown++
		fmt.Fprintf(a.w, "kyclink: %s: no request has this application ID\n", id)
		return
	}
	a.elsewhere++
	fmt.Fprintf(a.w, "kyclink: %s is %s, not %s: it is left as it is\n", id, state, a.shelf.state)
}

func (a *astray) err() error {
	if a.unknown == 0 {
		return nil
	}
	return &codeError{code: exitError}
}

// stopped says for a signal's sake that it was one, whatever it broke off.
func stopped(ctx context.Context, err error) error {
	if s, ok := errors.AsType[*signalError](context.Cause(ctx)); ok && err != nil {
		return s
	}
	return err
}
