package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/kyclink/kyclink/internal/action"
	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/operator"
	"github.com/kyclink/kyclink/internal/request"
)

func newBatchPause() *cobra.Command {
	return newBatchControl("pause", batch.Pause, "Stop calling FaceKi for a batch until \"batch resume\"",
		`Stop calling FaceKi for the requests of a batch at once. Calls in flight finish. A
request that is repeated in the interactive lane still gets its link.`)
}

func newBatchResume() *cobra.Command {
	return newBatchControl("resume", batch.Resume, "Continue a paused batch",
		`Continue a paused batch. If kyclink paused the batch because FaceKi refused its rows,
correct the cause first.`)
}

// newBatchControl returns a command that changes only the batch itself.
func newBatchControl(name string, control batch.Control, short, long string) *cobra.Command {
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
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "batch %q is %s; %s waiting, %s queued, %s calling\n", b.Batch, b.Status,
					count(b.Counts[request.Waiting]), count(b.Counts[request.Queued]), count(b.Counts[request.Calling]))
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
link.cancelled. No further call is started. A request that is being called ends when the
call is answered; a link that the call creates is kept. A cancelled batch cannot be
resumed, and accepts no more rows. A batch that is done stays done.

This cannot be undone: the command asks for confirmation unless --yes is given.

If the command is interrupted, the workers cancel the remaining requests. To continue it,
run it again.`,
		Example: "  kyclink batch cancel spring\n  kyclink batch cancel spring --yes",
		Args:    one("a batch's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := consent.check(cmd); err != nil {
				return err
			}
			return withBatch(cmd, args[0], func(e *engine, op *operator.Operator, b batch.Batch) error {
				if open := b.Open() + b.Counts[request.Held]; b.Status != batch.Cancelled && open > 0 { // otherwise there is nothing to lose
					question := fmt.Sprintf("Cancel %s without a link of batch %q? This cannot be undone.", number(open, "request"), b.Batch)
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

// cancelBatch cancels a batch, and prints how many requests it cancelled.
func cancelBatch(cmd *cobra.Command, op *operator.Operator, b batch.Batch) error {
	ctx := cmd.Context()
	now, cancelled, err := op.CancelBatch(ctx, b)
	summary := count(cancelled) + " cancelled"
	switch calling := now.Counts[request.Calling]; {
	case err != nil && now.Status != batch.Cancelled:
		return err
	case err != nil:
		return incompleteHint(ctx, err, summary, "workers cancel the others, without a further call; to do it now, run the same command again")
	case now.Status != batch.Cancelled:
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "batch %q is %s: there was nothing to cancel\n", now.Batch, now.Status)
		return err
	case calling > 0:
		summary += fmt.Sprintf("; %s being called, which end when the call is answered", count(calling))
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "batch %q is cancelled: %s\n", now.Batch, summary)
	return err
}

func newBatchRetry() *cobra.Command {
	failed := failedList()
	a := listAction[request.Record]{deadLetters: failed, kind: action.RetryFailed}
	cmd := &cobra.Command{
		Use:   "retry NAME",
		Short: "Retry failed requests of a batch",
		Long: `Start a new run of the failed requests of a batch. Each is called again and ends with a
new event; its history is kept. Retried requests take precedence over the batch's other
rows. While the batch or the account is paused, they wait.

The command starts an action and carries it out. If the command is interrupted, running
workers continue the action; see "kyclink actions".`,
		Example: "  kyclink batch retry spring\n  kyclink batch retry spring --reason workflow_rules --rate 50/s",
		Args:    one("a batch's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			failed.Batch, a.audited = args[0], []string{"batches.retry", args[0]}
			return withBatch(cmd, args[0], func(_ *engine, _ *operator.Operator, b batch.Batch) error {
				if b.Status == batch.Cancelled {
					return fmt.Errorf("batch %q is cancelled; to retry single requests of it: kyclink failed retry ID", b.Batch)
				}
				return a.run(cmd)
			})
		},
	}
	cmd.Flags().StringVar(&failed.Reason, "reason", "", "only those with `REASON`")
	a.flags(cmd)
	return cmd
}
