package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/operator"
)

func newBatchRefresh() *cobra.Command {
	var notAfter string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "refresh NAME",
		Short: "Request new links for those of a batch that have expired",
		Long: `Request the next generation for each request of a batch whose link has expired. Running
the command again requests nothing twice. The new generation stays in the batch and its
row, takes precedence over the batch's other rows, and has the settings of the first one.
It has no not_after unless --not-after is given. Rows that joined the batch are not
refreshed.`,
		Example: "  kyclink batch refresh spring --dry-run\n  kyclink batch refresh spring --not-after 2026-12-24T00:00:00Z",
		Args:    one("a batch's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var due time.Time
			if cmd.Flags().Changed("not-after") {
				var err error
				if due, err = time.Parse(time.RFC3339, notAfter); err != nil {
					return usageError(cmd, fmt.Errorf("--not-after: %q is not a time such as 2026-12-24T00:00:00Z", notAfter))
				}
			}
			return withBatch(cmd, args[0], func(e *engine, op *operator.Operator, b batch.Batch) error {
				err := op.CheckRefresh(cmd.Context(), b, due)
				switch {
				case errors.Is(err, operator.ErrPast):
					return usageError(cmd, errors.New("--not-after is in the past"))
				case err != nil:
					return err
				case dryRun:
					expired, err := op.Expired(cmd.Context(), b)
					if err != nil {
						return stopped(cmd.Context(), err)
					}
					_, err = fmt.Fprintf(cmd.OutOrStdout(), "batch %q: %s would be refreshed\n", b.Batch, count(expired))
					return err
				}
				if err := e.audit(cmd.Context(), "batches.refresh", b.Batch); err != nil {
					return err
				}
				refreshed, err := op.RefreshBatch(cmd.Context(), b, due)
				if err != nil {
					return incomplete(cmd.Context(), err, count(refreshed)+" refreshed")
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "batch %q: %s refreshed\n", b.Batch, count(refreshed))
				return err
			})
		},
	}
	cmd.Flags().StringVar(&notAfter, "not-after", "", "give up on the new links at `TIME`, such as 2026-12-24T00:00:00Z")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "print how many requests would be refreshed, and change nothing")
	return cmd
}
