package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/diagnosis"
	"github.com/kyclink/kyclink/internal/operator"
	"github.com/kyclink/kyclink/internal/request"
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
				if err := printBatch(cmd.OutOrStdout(), b); err != nil {
					return err
				}
				return printDiagnosis(cmd.OutOrStdout(), d)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return cmd
}

// diagnosedBatch is a batch with the diagnosis of why links are missing, in JSON.
type diagnosedBatch struct {
	batch.Batch
	Diagnosis diagnosis.Diagnosis `json:"diagnosis"`
}

// printBatch prints the status of a batch, a line for each value.
func printBatch(w io.Writer, b batch.Batch) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "batch\t%s\nstatus\t%s\n", b.Batch, batchStatus(b))
	if refused := b.RefusedMessage(); refused != "" {
		fmt.Fprintf(t, "because\t%s\nwhat to do\t%s\n", refused, refusedAdvice(b))
	}
	fmt.Fprintf(t, "rows\t%d\n", b.Rows)
	for _, state := range append(request.States[:], batch.Erased) {
		fmt.Fprintf(t, "  %s\t%d\n", state, b.Counts[state])
	}
	fmt.Fprintf(t, "  joined\t%d", b.Joined)
	if b.Joined > 0 {
		fmt.Fprintf(t, ": %s", inStates(b.JoinedCounts))
	}
	fmt.Fprintf(t, "\npossible duplicates\t%d\nthroughput\t%.1f/s\n", b.PossibleDuplicates, b.Throughput)
	if !b.ETA.IsZero() {
		fmt.Fprintf(t, "done\tabout %s\n", moment(b.ETA))
	}
	fmt.Fprintf(t, "created\t%s\n", moment(b.CreatedAt))
	return t.Flush()
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
		text += fmt.Sprintf(", about %v left", time.Duration(float64(b.OpenOwn())/b.Throughput*float64(time.Second)).Round(time.Second))
	}
	return text
}
