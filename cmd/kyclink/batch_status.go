package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/diagnosis"
	"github.com/kyclink/kyclink/internal/forecast"
	"github.com/kyclink/kyclink/internal/operator"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/terminal"
)

func newBatchStatus() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status NAME",
		Short: "Show the progress of a batch",
		Long: `Show how many of a batch's requests are in each state, how many ended per second
recently, and when the batch will be done at this rate. A batch is done when none of its
rows, joined rows included, is waiting, queued or calling. Held rows need a decision by a
person.`,
		Example: "  kyclink batch status spring\n  kyclink batch status spring --json",
		Args:    one("a batch's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withBatch(cmd, args[0], func(_ *engine, op *operator.Operator, b batch.Batch) error {
				d, err := op.DiagnoseBatch(cmd.Context(), b)
				if err != nil {
					return err
				}
				if asJSON {
					return printJSON(cmd.OutOrStdout(), diagnosedBatch{b, d})
				}
				p := newPage(cmd)
				if err := printBatch(p, b); err != nil {
					return err
				}
				return printBatchDiagnosis(p, d)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return cmd
}

// printBatchDiagnosis prints the diagnosis of a batch. That its rows are refused is a value of
// the batch already.
func printBatchDiagnosis(p *terminal.Page, d diagnosis.Diagnosis) error {
	if d.Code == diagnosis.RowsRefused {
		return printFindings(p, d)
	}
	return printDiagnosis(p, d)
}

// diagnosedBatch is a batch with the diagnosis of why links are missing, in JSON.
type diagnosedBatch struct {
	batch.Batch
	Diagnosis diagnosis.Diagnosis `json:"diagnosis"`
}

// printBatch prints the status of a batch, a line for each value.
func printBatch(p *terminal.Page, b batch.Batch) error {
	f := p.Fields()
	f.AddTone("batch", terminal.Heading, b.Batch)
	f.AddTone("status", batchTone(b), batchStatus(b))
	if refused := b.RefusedMessage(); refused != "" {
		f.AddTone("because", terminal.Bad, refused)
		f.Add("what to do", refusedAdvice(b))
	}
	f.Add("rows", count(b.Rows))
	for _, state := range append(request.States[:], batch.Erased) {
		n := b.Counts[state]
		f.AddTone("  "+string(state), countTone(state, n), count(n))
	}
	joined := count(b.Joined)
	if b.Joined > 0 {
		joined += ": " + inStates(b.JoinedCounts)
	}
	f.Add("  joined", joined)
	f.Add("possible duplicates", count(b.PossibleDuplicates))
	f.Add("throughput", fmt.Sprintf("%.1f/s", b.Throughput))
	if !b.ETA.IsZero() {
		f.Add("done", "about "+dated(p, b.ETA))
	}
	f.Add("created", dated(p, b.CreatedAt))
	return f.Flush()
}

// batchTone returns the tone of the status of a batch.
func batchTone(b batch.Batch) terminal.Tone {
	switch {
	case b.Status == batch.Paused && b.RefusedMessage() != "":
		return terminal.Bad
	case b.Status == batch.Paused, b.Status == batch.Cancelled:
		return terminal.Warning
	case b.Status == batch.Done:
		return terminal.Good
	}
	return terminal.Plain
}

// countTone returns the tone of the number of requests in a state.
func countTone(state request.State, n int) terminal.Tone {
	switch {
	case n == 0:
		return terminal.Dim
	case state == request.Created:
		return terminal.Good
	case state == request.Failed:
		return terminal.Bad
	case state == request.Held:
		return terminal.Warning
	}
	return terminal.Plain
}

// batchStatus returns a batch's status, with the reason if kyclink paused the batch.
func batchStatus(b batch.Batch) string {
	if b.RefusedMessage() == "" {
		return string(b.Status)
	}
	return fmt.Sprintf("%s (%s)", b.Status, b.Reason)
}

// refusedAdvice returns what a person can do about a batch that was paused because its
// rows are refused.
func refusedAdvice(b batch.Batch) string {
	return fmt.Sprintf("if the workflow or a setting was wrong, correct it, then kyclink batch resume %[1]q "+
		"and kyclink batch retry %[1]q; if the rows are wrong, kyclink batch cancel %[1]q and import them corrected", b.Batch)
}

// throughput returns a batch's throughput, and how long the batch will take at that rate.
func throughput(b batch.Batch) string {
	text := fmt.Sprintf("%.1f/s", b.Throughput)
	if !b.ETA.IsZero() {
		left := time.Duration(float64(b.OpenOwn()) / b.Throughput * float64(time.Second))
		text += fmt.Sprintf(", about %s left", forecast.Short(left.Round(time.Second)))
	}
	return text
}
