package main

import (
	"github.com/spf13/cobra"

	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/operator"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/terminal"
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
				p := newPage(cmd)
				t := p.Table("BATCH", "STATUS", "ROWS", "CREATED", "FAILED", "OPEN", "AGE")
				for _, b := range batches {
					if asJSON {
						if err := printJSON(cmd.OutOrStdout(), b); err != nil {
							return err
						}
						continue
					}
					t.Row(batchRow(p, b)...)
				}
				if err := t.Flush(); err != nil {
					return err
				}
				if len(batches) > 0 && !asJSON {
					hint("To see why a batch is not done: kyclink batch status BATCH")
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print each as a line of JSON")
	return cmd
}

// batchRow returns a batch as a row of a table.
func batchRow(p *terminal.Page, b batch.Batch) []terminal.Cell {
	cell := func(s request.State, n int, noun string) terminal.Cell {
		tone := terminal.Plain
		if s == request.Failed && n > 0 {
			tone = terminal.Bad
		}
		text := count(n)
		if !p.Terminal() { // the columns have no headings
			text += " " + noun
		}
		return terminal.Cell{Text: text, Tone: tone, Number: true}
	}
	all := func(s request.State) int { return b.Counts[s] + b.JoinedCounts[s] }
	rows := "rows"
	if b.Rows == 1 {
		rows = "row"
	}
	return []terminal.Cell{
		{Text: b.Batch, Whole: true}, {Text: batchStatus(b), Tone: batchTone(b)}, cell("", b.Rows, rows),
		cell(request.Created, all(request.Created), "created"), cell(request.Failed, all(request.Failed), "failed"), cell("", b.Open(), "open"),
		{Text: age(p, b.CreatedAt), Tone: terminal.Dim},
	}
}
