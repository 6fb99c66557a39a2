package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/kyclink/kyclink/internal/ledger"
	"github.com/kyclink/kyclink/internal/request"
)

func newBatchRefresh() *cobra.Command {
	var notAfter string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "refresh NAME",
		Short: "ask for new links where those of a batch have expired",
		Long: `refresh asks for the next generation of the requests of a batch whose link has
expired, and of no others: of each once, however often it is run. The new generation
stays in the batch and in its row, is fed before the batch's other rows, and has what
the first was asked for with, but no not_after unless one is given. What joined the
batch is left alone.`,
		Example: "  kyclink batch refresh spring --dry-run\n  kyclink batch refresh spring --not-after 2026-12-24T00:00:00Z",
		Args:    one("a batch's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var due time.Time
			if cmd.Flags().Changed("not-after") {
				var err error
				if due, err = time.Parse(time.RFC3339, notAfter); err != nil {
					return usageError(cmd, fmt.Errorf("--not-after: %q is no time such as 2026-12-24T00:00:00Z", notAfter))
				}
			}
			return withBatch(cmd, args[0], func(e *engine, book *ledger.Ledger, b ledger.Batch) error {
				return refreshBatch(cmd, e, book, b, due, dryRun)
			})
		},
	}
	cmd.Flags().StringVar(&notAfter, "not-after", "", "end what has no new link by then, a time such as 2026-12-24T00:00:00Z")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only say how many they are")
	return cmd
}

func refreshBatch(cmd *cobra.Command, e *engine, book *ledger.Ledger, b ledger.Batch, notAfter time.Time, dryRun bool) error {
	ctx := cmd.Context()
	now, err := book.Keys().Clock(ctx, e.rdb).Time()
	if err != nil {
		return err
	}
	switch {
	case b.Status == ledger.BatchCancelled:
		return fmt.Errorf("batch %q is cancelled, and takes no new generations; ask for single ones with kyclink request --generation", b.Batch)
	case !notAfter.IsZero() && !notAfter.After(now):
		return usageError(cmd, errors.New("--not-after has passed already"))
	}
	if !dryRun {
		if err := e.audit(ctx, "batches.refresh", b.Batch); err != nil {
			return err
		}
	}
	expired, refreshed := 0, 0
	for page, err := range book.Own(ctx, b.Number) {
		page = slices.DeleteFunc(page, func(r request.Record) bool { return !ledger.ExpiredAt(r, now) })
		expired += len(page)
		if err == nil && !dryRun {
			var ids []string
			ids, err = book.Refresh(ctx, b.Number, page, notAfter)
			refreshed += len(ids)
		}
		if err == nil {
			continue
		}
		if s, ok := errors.AsType[*signalError](context.Cause(ctx)); ok {
			return &codeError{exitInterrupted + int(s.signal), fmt.Errorf("%w: %d refreshed; run the same command again to go on", s, refreshed)}
		}
		return fmt.Errorf("%w\n%d refreshed before that; run the same command again to go on", err, refreshed)
	}
	said := fmt.Sprintf("batch %q: %d refreshed", b.Batch, refreshed)
	if dryRun {
		said = fmt.Sprintf("batch %q: %d would be refreshed", b.Batch, expired)
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), said)
	return err
}
