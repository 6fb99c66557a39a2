package main

import (
	"github.com/spf13/cobra"

	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/operator"
)

func newBatch() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "batch",
		Short: "Show, control and export batches",
		Long: `Show, control and export batches. A batch consists of the rows that were imported under
one name. Its commands affect the requests that the batch accepted first. They do not
affect rows that joined the batch because their request was accepted elsewhere before.`,
		Args: subcommandOnly,
		RunE: showHelp,
	}
	cmd.AddCommand(
		newBatchList(), newBatchStatus(), newBatchWatch(), newBatchExport(), newBatchPause(), newBatchResume(), newBatchCancel(),
		newBatchRetry(), newBatchRefresh(), newBatchCheck(),
	)
	return cmd
}

// withBatch calls do with a batch, and fails if there is none of this name.
func withBatch(cmd *cobra.Command, name string, do func(*engine, *operator.Operator, batch.Batch) error) error {
	return withShared(cmd, func(e *engine) error {
		op := e.operator()
		b, err := op.Batch(cmd.Context(), name)
		if err != nil {
			return err
		}
		return do(e, op, b)
	})
}
