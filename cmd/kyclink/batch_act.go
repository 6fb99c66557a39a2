package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/ledger"
	"github.com/kyclink/kyclink/internal/request"
)

// withBatch does something with a batch that must exist.
func withBatch(cmd *cobra.Command, name string, do func(e *engine, book *ledger.Ledger, b ledger.Batch) error) error {
	return withShared(cmd, func(e *engine) error {
		book := ledger.New(e.rdb, ledger.Config{Account: e.cfg.Account})
		number, err := batchNumber(cmd.Context(), book, name)
		if err != nil {
			return err
		}
		b, ok, err := book.Batch(cmd.Context(), number)
		if err == nil && !ok {
			err = fmt.Errorf("batch %q has lost its counters; kyclink cannot go on with it", name)
		}
		if err != nil {
			return err
		}
		return do(e, book, b)
	})
}

func newBatchPause() *cobra.Command {
	return newSteer("pause", ledger.PauseBatch, "stop calling FaceKi for a batch, until resume",
		`pause holds at once for all requests that are not being called at this moment; those
are seen through. Somebody who asks for the link of one of them in the interactive
lane gets it all the same.`)
}

func newBatchResume() *cobra.Command {
	return newSteer("resume", ledger.ResumeBatch, "go on with a batch that is paused", "")
}

// newSteer is a command that changes nothing but the batch itself.
func newSteer(name string, control ledger.Control, short, long string) *cobra.Command {
	return &cobra.Command{
		Use:     name + " NAME",
		Short:   short,
		Long:    long,
		Example: "  kyclink batch " + name + " spring",
		Args:    one("a batch's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withBatch(cmd, args[0], func(e *engine, book *ledger.Ledger, b ledger.Batch) error {
				if err := e.audit(cmd.Context(), "batches."+string(control), b.Batch); err != nil {
					return err
				}
				if err := book.Steer(cmd.Context(), b, control); err != nil {
					return err
				}
				b, _, err := book.Batch(cmd.Context(), b.Number)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "batch %q is %s; %d wait, %d are queued, %d are being called\n", b.Batch, b.Status,
					b.Counts[request.Waiting], b.Counts[request.Queued], b.Counts[request.Calling])
				return err
			})
		},
	}
}

func newBatchCancel() *cobra.Command {
	var consent consent
	cmd := &cobra.Command{
		Use:   "cancel NAME",
		Short: "end all requests of a batch that have no link, for good",
		Long: `cancel ends the requests of a batch that wait, are queued or held: each as cancelled,
with the event link.cancelled. At once none of them is called any more. What is
being called at this moment ends with its answer: a link that was made is kept.
A cancelled batch cannot go on and takes no more rows. A batch that is done already
stays done. This cannot be undone; it asks first, or needs --yes.

Where the command is broken off, the workers end the rest; to run it again is to
go on with it.`,
		Example: "  kyclink batch cancel spring\n  kyclink batch cancel spring --yes",
		Args:    one("a batch's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := consent.check(cmd); err != nil {
				return err
			}
			return withBatch(cmd, args[0], func(e *engine, book *ledger.Ledger, b ledger.Batch) error {
				if b.Status != ledger.BatchCancelled && b.Open()+b.Counts[request.Held] > 0 { // else there is nothing to lose
					question := fmt.Sprintf("Cancel %s of batch %q that have no link, for good?", number(b.Open()+b.Counts[request.Held], "request"), b.Batch)
					if err := consent.get(cmd, question); err != nil {
						return err
					}
				}
				if err := e.audit(cmd.Context(), "batches.cancel", b.Batch); err != nil {
					return err
				}
				return cancelBatch(cmd, book, b)
			})
		},
	}
	consent.flag(cmd)
	return cmd
}

func cancelBatch(cmd *cobra.Command, book *ledger.Ledger, b ledger.Batch) error {
	ctx := cmd.Context()
	err := book.Steer(ctx, b, ledger.CancelBatch)
	if err == nil {
		b, _, err = book.Batch(ctx, b.Number)
	}
	if err != nil {
		return err
	}
	if b.Status != ledger.BatchCancelled {
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "batch %q is %s: nothing of it was left to cancel\n", b.Batch, b.Status)
		return err
	}
	total := 0
	err = book.CallOff(ctx, b.Number, func(ended int) { total += ended })
	said := fmt.Sprintf("%d cancelled", total)
	if s, ok := errors.AsType[*signalError](context.Cause(ctx)); ok && err != nil {
		return &codeError{exitInterrupted + int(s.signal),
			fmt.Errorf("%w: %s; none of the others is called any more: workers end them, or run the same command again", s, said)}
	}
	if err != nil {
		return fmt.Errorf("%w\n%s before that; none of the others is called any more: workers end them, or run the same command again", err, said)
	}
	if b, _, err = book.Batch(ctx, b.Number); err != nil {
		return err
	}
	if n := b.Counts[request.Calling]; n > 0 {
		said += fmt.Sprintf("; %d are being called, and end with the answer", n)
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "batch %q is cancelled: %s\n", b.Batch, said)
	return err
}

func newBatchRetry() *cobra.Command {
	o := &actOptions{
		act: act{
			action: "batches.retry", use: "retry NAME", short: "try failed requests of a batch again", done: "retried", do: retry, paced: true,
			long: `retry starts a new run of the failed requests of a batch: each gets a new end, with
an event id of its own, and keeps its history. They come before the batch's other
rows. While the batch or the account is paused they wait.`,
			example: "  kyclink batch retry spring\n  kyclink batch retry spring --reason workflow_rules --rate 50/s",
		},
		pick: pick{shelf: shelf{request.Failed, fault.Ends()}, all: true},
	}
	cmd := &cobra.Command{
		Use: o.use, Short: o.short, Long: o.long, Example: o.example,
		Args: one("a batch's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.batch, o.target = args[0], args[0]
			return withBatch(cmd, args[0], func(_ *engine, _ *ledger.Ledger, b ledger.Batch) error {
				if b.Status == ledger.BatchCancelled {
					return fmt.Errorf("batch %q is cancelled; single requests of it can be tried again all the same: kyclink failed retry ID", b.Batch)
				}
				return o.run(cmd)
			})
		},
	}
	cmd.Flags().StringVar(&o.reason, "reason", "", "only those with this reason")
	o.actFlags(cmd)
	return cmd
}
