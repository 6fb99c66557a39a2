package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kyclink/kyclink/internal/ledger"
)

func newBatch() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "batch",
		Short: "batches: look, steer, count again, export",
		Long: `A batch is what was imported under one name. What is done to it is done to the
requests that it accepted first; those that joined it, because they were asked for
elsewhere before, are another's.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		newBatchList(), newBatchStatus(), newBatchWatch(), newBatchPause(), newBatchResume(), newBatchCancel(), newBatchRetry(), newBatchCheck(),
		newBatchExport(), newBatchRefresh(),
	)
	return cmd
}

// nearest is how many names are offered where one is unknown.
const nearest = 5

// batchNumber is the number of a batch that must exist.
func batchNumber(ctx context.Context, book *ledger.Ledger, name string) (int, error) {
	number, known, err := book.BatchNumber(ctx, name)
	if err != nil || known {
		return number, err
	}
	names, err := book.BatchNames(ctx)
	if err != nil {
		return 0, err
	}
	account := book.Keys().Account
	if len(names) == 0 {
		return 0, fmt.Errorf("there is no batch %q in account %q, nor any other", name, account)
	}
	slices.Sort(names)
	names = slices.DeleteFunc(names, func(other string) bool { return !near(name, other) })
	if len(names) == 0 {
		return 0, fmt.Errorf("there is no batch %q in account %q; kyclink batch list shows those that there are", name, account)
	}
	names = names[:min(len(names), nearest)]
	for i, n := range names {
		names[i] = fmt.Sprintf("%q", n)
	}
	return 0, fmt.Errorf("there is no batch %q in account %q; did you mean %s?", name, account, strings.Join(names, " or "))
}

// near says whether one name may be meant by another: it is part of it, or
// differs from it in one place.
func near(typed, name string) bool {
	a, b := strings.ToLower(typed), strings.ToLower(name)
	if len(a) >= 3 && strings.Contains(b, a) || len(b) >= 3 && strings.Contains(a, b) {
		return true
	}
	head := 0
	for head < min(len(a), len(b)) && a[head] == b[head] {
		head++
	}
	tail := 0
	for tail < min(len(a), len(b))-head && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	return max(len(a), len(b))-head-tail <= min(2, len(b)/2)
}
