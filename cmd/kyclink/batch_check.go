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

// checkResult is what check prints as JSON.
type checkResult struct {
	Batch   string         `json:"batch"`
	Rows    int            `json:"rows"`
	Exact   bool           `json:"exact"`
	Differs map[string]int `json:"differs,omitempty"` // by how much the counters say more
}

func newBatchCheck() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check NAME",
		Short: "Compare a batch's counters with its records",
		Long: `Count a batch's requests again from its rows and their records, and compare the result
with the batch's counters. They must always agree, also while the batch is running:
requests that change meanwhile are counted again until the result is exact. If they
differ, the exit code is 1. It changes nothing. Erased requests cannot be counted again.`,
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
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	return cmd
}
