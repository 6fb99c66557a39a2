package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/kyclink/kyclink/internal/operator"
	"github.com/kyclink/kyclink/internal/request"
)

func newBatchList() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List all batches with their counts, oldest first",
		Long:    "List all batches with their counts, oldest first. The counts include joined rows.",
		Example: "  kyclink batch list\n  kyclink batch list --json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withOperator(cmd, func(op *operator.Operator) error {
				batches, err := op.Batches(cmd.Context())
				if err != nil {
					return err
				}
				t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
				for _, b := range batches {
					if asJSON {
						if err := printJSON(cmd.OutOrStdout(), b); err != nil {
							return err
						}
						continue
					}
					all := func(s request.State) int { return b.Counts[s] + b.JoinedCounts[s] }
					fmt.Fprintf(t, "%s\t%s\t%s\t%d created\t%d failed\t%d open\t%s\n", b.Batch, batchStatus(b),
						number(b.Rows, "row"), all(request.Created), all(request.Failed), b.Open(), moment(b.CreatedAt))
				}
				return t.Flush()
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print each as a line of JSON")
	return cmd
}
