package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/operator"
	"github.com/kyclink/kyclink/internal/request"
)

func newBatchPause() *cobra.Command {
	return newBatchSteer("pause", batch.Pause, "Stop calling FaceKi for a batch, until \"batch resume\"",
		`Stop calling FaceKi for the requests of a batch at once. Calls in flight are finished. A
request that is repeated in the interactive lane still gets its link.`)
}

func newBatchResume() *cobra.Command {
	return newBatchSteer("resume", batch.Resume, "Continue a paused batch",
		`Continue a paused batch. If kyclink paused it because FaceKi refused its rows, correct the
cause first.`)
}

// newBatchSteer makes a command that changes nothing but the batch itself.
func newBatchSteer(name string, control batch.Control, short, long string) *cobra.Command {
	return &cobra.Command{
		Use:     name + " NAME",
		Short:   short,
		Long:    long,
		Example: "  kyclink batch " + name + " spring",
		Args:    one("a batch's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withBatch(cmd, args[0], func(e *engine, op *operator.Operator, b batch.Batch) error {
				if err := e.audit(cmd.Context(), "batches."+string(control), b.Batch); err != nil {
					return err
				}
				b, err := op.Steer(cmd.Context(), b, control)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "batch %q is %s; %d waiting, %d queued, %d calling\n", b.Batch, b.Status,
					b.Counts[request.Waiting], b.Counts[request.Queued], b.Counts[request.Calling])
				return err
			})
		},
	}
}

func newBatchCancel() *cobra.Command {
	var consent consent
	cmd := &cobra.Command{
		Use:   "cancel NAME",
		Short: "Cancel all requests of a batch that have no link",
		Long: `End the requests of a batch that are waiting, queued or held as cancelled, with the event
link.cancelled. No call begins from now on. A request that is being called ends when the
call is answered; a link that it creates is kept. A cancelled batch cannot be resumed and
accepts no more rows. A batch that is done stays done. This cannot be undone; the command
asks first, or needs --yes.

If the command is interrupted, the workers end the rest; it can be run again to continue.`,
		Example: "  kyclink batch cancel spring\n  kyclink batch cancel spring --yes",
		Args:    one("a batch's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := consent.check(cmd); err != nil {
				return err
			}
			return withBatch(cmd, args[0], func(e *engine, op *operator.Operator, b batch.Batch) error {
				if open := b.Open() + b.Counts[request.Held]; b.Status != batch.Cancelled && open > 0 { // else nothing is lost
					question := fmt.Sprintf("Cancel %s of batch %q that have no link, for good?", number(open, "request"), b.Batch)
					if err := consent.get(cmd, question); err != nil {
						return err
					}
				}
				if err := e.audit(cmd.Context(), "batches.cancel", b.Batch); err != nil {
					return err
				}
				return cancelBatch(cmd, op, b)
			})
		},
	}
	consent.flag(cmd)
	return cmd
}

func cancelBatch(cmd *cobra.Command, op *operator.Operator, b batch.Batch) error {
	ctx := cmd.Context()
	now, cancelled, err := op.CancelBatch(ctx, b)
	summary := fmt.Sprintf("%d cancelled", cancelled)
	switch calling := now.Counts[request.Calling]; {
	case err != nil && now.Status != batch.Cancelled:
		return err
	case err != nil:
		return incompleteHint(ctx, err, summary, "none of the others is called any more: workers end them, or "+runAgain)
	case now.Status != batch.Cancelled:
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "batch %q is %s: there was nothing to cancel\n", now.Batch, now.Status)
		return err
	case calling > 0:
		summary += fmt.Sprintf("; %d are being called, and end when the call is answered", calling)
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "batch %q is cancelled: %s\n", now.Batch, summary)
	return err
}

func newBatchRetry() *cobra.Command {
	failed := failedList()
	a := action[request.Record]{deadLetters: failed, name: "batches.retry", verb: "retried", do: (*operator.Operator).Retry}
	cmd := &cobra.Command{
		Use:   "retry NAME",
		Short: "Retry failed requests of a batch",
		Long: `Start a new run of the failed requests of a batch: each is called again, gets a new end
with an event ID of its own, and keeps its history. They come before the batch's other
rows. While the batch or the account is paused, they wait.`,
		Example: "  kyclink batch retry spring\n  kyclink batch retry spring --reason workflow_rules --rate 50/s",
		Args:    one("a batch's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			failed.Batch, a.target = args[0], args[0]
			return withBatch(cmd, args[0], func(_ *engine, _ *operator.Operator, b batch.Batch) error {
				if b.Status == batch.Cancelled {
					return fmt.Errorf("batch %q is cancelled; single requests of it can still be retried: kyclink failed retry ID", b.Batch)
				}
				return a.run(cmd)
			})
		},
	}
	cmd.Flags().StringVar(&failed.Reason, "reason", "", "only those with `REASON`")
	a.flags(cmd)
	return cmd
}
