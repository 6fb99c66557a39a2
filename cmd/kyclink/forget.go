package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kyclink/kyclink/internal/ledger"
)

// forgetOptions says whose data is to go, and how.
type forgetOptions struct {
	consent
	ids            []string
	batch          string
	dryRun, asJSON bool
}

func newForget() *cobra.Command {
	o := &forgetOptions{}
	cmd := &cobra.Command{
		Use:   "forget ID... | --batch NAME",
		Short: "erase what is kept of persons, or of a batch",
		Long: `forget erases requests and all that names them: their records with all generations
and links, their tasks, their events in the results stream, their ids in the rows of
batches, what was put aside of them, the intake stream's rejects and the entries of
the audit trail that name them. What has not ended is cancelled first; a
request that is being called at this moment is left, is cancelled as soon as its call
has an answer, and can be forgotten some seconds later. Only counters stay, where
they are counted as erased.

With --batch it erases what that batch accepted first, cancels the batch, and leaves
what joined it. A forgotten id may be asked for again: that is a new request.

It may be broken off and run again to go on. It reaches what is in Redis: not the
files that were exported, nor the OUT and OUT.journal of kyclink run, nor what
receivers of events have stored, nor FaceKi. Delete those yourself.`,
		Example: "  kyclink forget A-1001 A-1002\n  kyclink forget --batch spring --dry-run\n  kyclink forget --batch spring --yes --json",
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.ids = args
			if err := o.check(cmd); err != nil {
				return err
			}
			return withShared(cmd, func(e *engine) error { return o.run(cmd, e) })
		},
	}
	cmd.Flags().StringVar(&o.batch, "batch", "", "forget all that this batch accepted first")
	o.flag(cmd)
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "only say what there is")
	cmd.Flags().BoolVar(&o.asJSON, "json", false, "print what was erased, or would be, as JSON")
	return cmd
}

func (o *forgetOptions) check(cmd *cobra.Command) error {
	switch given := o.batch != ""; {
	case given && len(o.ids) > 0:
		return usageError(cmd, errors.New("application ids and --batch contradict each other; give one of them"))
	case !given && len(o.ids) == 0:
		return usageError(cmd, errors.New("say whose data is to be erased: application ids, or --batch"))
	}
	slices.Sort(o.ids)
	o.ids = slices.Compact(o.ids)
	if o.dryRun {
		return nil
	}
	return o.consent.check(cmd)
}

func (o *forgetOptions) run(cmd *cobra.Command, e *engine) error {
	ctx := cmd.Context()
	book := ledger.New(e.rdb, ledger.Config{Account: e.cfg.Account})
	f := newForgetting(e, book, cmd.ErrOrStderr())
	if o.batch != "" {
		number, err := batchNumber(ctx, book, o.batch)
		if err != nil {
			return err
		}
		f.batch = ledger.Batch{Batch: o.batch, Number: number}
	}
	found, err := f.look(ctx, o.ids)
	if err != nil {
		return stopped(ctx, err)
	}
	switch {
	case o.dryRun && o.asJSON:
		return printJSON(cmd.OutOrStdout(), struct {
			Requests int `json:"requests"`
		}{found})
	case o.dryRun:
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s would be erased, and all that names them\n", number(found, "request"))
		return err
	}
	if err := o.get(cmd, o.question(found)); err != nil {
		return err
	}
	// Whose data it was is not to be known any more.
	action, target := "links.erase", number(len(o.ids), "id")
	if o.batch != "" {
		action, target = "batches.erase", o.batch
	}
	if err := e.audit(ctx, action, target); err != nil {
		return err
	}
	err = f.all(ctx, o.ids)
	if s, ok := errors.AsType[*signalError](context.Cause(ctx)); ok && err != nil {
		return &codeError{exitInterrupted + int(s.signal), fmt.Errorf("%w: erased so far: %s; run the same command again to go on", s, f.done)}
	}
	if err != nil {
		return fmt.Errorf("%w\nerased so far: %s; run the same command again to go on", err, f.done)
	}
	if o.asJSON {
		err = printJSON(cmd.OutOrStdout(), f.done)
	} else {
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "erased: %s\n", f.done)
	}
	return cmp.Or(err, f.refusal())
}

func (o *forgetOptions) question(found int) string {
	whose := strings.Join(o.ids[:min(len(o.ids), 5)], ", ")
	if len(o.ids) > 5 {
		whose += ", …"
	}
	if o.batch != "" {
		whose = fmt.Sprintf("batch %q", o.batch)
	}
	return fmt.Sprintf("Erase %s of %s, for good?", number(found, "request"), whose)
}

// forgotten counts what was erased, by kind.
type forgotten struct {
	Requests    int `json:"requests"`
	Generations int `json:"generations"`
	Rows        int `json:"rows"` // that lost their id, of batches and of what was to be fed
	Events      int `json:"events"`
	Tasks       int `json:"tasks"`
	Aside       int `json:"put_aside"`
	Entries     int `json:"entries"` // of the intake stream's rejects and of the audit trail
}

func (f forgotten) String() string {
	return fmt.Sprintf("%s with %s, %s, %s, %s, %d put aside, %d from the rejects and the audit trail",
		number(f.Requests, "request"), number(f.Generations, "generation"), number(f.Rows, "row"), number(f.Events, "event"),
		number(f.Tasks, "task"), f.Aside, f.Entries)
}
