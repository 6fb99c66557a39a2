package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kyclink/kyclink/internal/ledger"
)

// checked is what check prints.
type checked struct {
	Batch   string         `json:"batch"`
	Rows    int            `json:"rows"`
	Exact   bool           `json:"exact"`
	Differs map[string]int `json:"differs,omitempty"` // by how much the counters say more
}

func newBatchCheck() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check NAME",
		Short: "count a batch again, and compare",
		Long: `check counts a batch's requests again, from its rows and their records, and compares
that with its counters. They must agree at every moment, also while the batch runs:
requests that move meanwhile are counted once more, until what is left is exact.
Where they differ it says so, and exits with 1. It changes nothing. Requests that
were erased cannot be counted again.`,
		Example: "  kyclink batch check spring",
		Args:    one("a batch's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withBatch(cmd, args[0], func(_ *engine, book *ledger.Ledger, b ledger.Batch) error {
				c, err := book.Check(cmd.Context(), b.Number)
				if err != nil {
					return stopped(cmd.Context(), fmt.Errorf("batch %q: %w", b.Batch, err))
				}
				differs := c.Differs()
				if asJSON {
					err = printJSON(cmd.OutOrStdout(), checked{b.Batch, c.Batch.Rows, len(differs) == 0, differs})
				} else if len(differs) == 0 {
					_, err = fmt.Fprintf(cmd.OutOrStdout(), "batch %q: %s; every count is exact\n", b.Batch, counts(c.Batch))
				}
				if err != nil || len(differs) == 0 {
					return err
				}
				var parts []string
				for _, what := range slices.Sorted(maps.Keys(differs)) {
					parts = append(parts, fmt.Sprintf("%s by %+d", what, differs[what]))
				}
				return fmt.Errorf("the counters of batch %q differ from its rows: %s. Please report this: it is a bug in kyclink, or Redis lost data", b.Batch, strings.Join(parts, ", "))
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	return cmd
}
