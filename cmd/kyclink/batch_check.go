package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/operator"
)

// checkResult is the result of a check in JSON.
type checkResult struct {
	Batch   string         `json:"batch"`
	Rows    int            `json:"rows"`
	Exact   bool           `json:"exact"`
	Differs map[string]int `json:"differs,omitempty"` // by how much each counter exceeds the recount
}

func newBatchCheck() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check NAME",
		Short: "Compare a batch's counters with its records",
		Long: `Recount a batch's requests from its rows and their records, and compare the result with
the batch's counters. The two must always agree, even while the batch is running:
requests that change meanwhile are recounted until the result is exact. Erased requests
cannot be recounted. The command changes nothing. The exit code is 1 if the counters
differ.`,
		Example: "  kyclink batch check spring",
		Args:    one("a batch's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withBatch(cmd, args[0], func(_ *engine, op *operator.Operator, b batch.Batch) error {
				c, err := op.CheckBatch(cmd.Context(), b)
				if err != nil {
					return stopped(cmd.Context(), err)
				}
				differs := c.Differences()
				if asJSON {
					err = printJSON(cmd.OutOrStdout(), checkResult{b.Batch, c.Batch.Rows, len(differs) == 0, differs})
				} else if len(differs) == 0 {
					_, err = fmt.Fprintf(cmd.OutOrStdout(), "batch %q: %s; every count is exact\n", b.Batch, counts(c.Batch))
				}
				if err != nil || len(differs) == 0 {
					return err
				}
				var parts []string
				for _, counter := range slices.Sorted(maps.Keys(differs)) {
					parts = append(parts, fmt.Sprintf("%s by %+d", counter, differs[counter]))
				}
				return fmt.Errorf("the counters of batch %q differ from its rows: %s. Please report this: it is a bug in kyclink, or Redis lost data", b.Batch, strings.Join(parts, ", "))
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return cmd
}
