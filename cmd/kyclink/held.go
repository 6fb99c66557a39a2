package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/request"
)

func newHeld() *cobra.Command {
	s := shelf{request.Held, fault.Holds()}
	cmd := &cobra.Command{
		Use:   "held",
		Short: "requests that wait for a person: look, try again, or drop",
		Long: `A request is held where a link may exist that nobody has: FaceKi said that it made
one and gave none that can be used (unusable_answer), or the outcome of a call is
unknown and KYCLINK_ON_UNKNOWN is hold (unknown_outcome). FaceKi cannot be asked
for it; look at its console for the application id. Then retry, which may make and
bill a second link, or drop.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		s.newList("", "  kyclink held list\n  kyclink held list --reason unknown_outcome --since 24h --json"),
		s.newAct(act{
			action: "held.retry", use: "retry", short: "let held requests go on", done: "retried", do: retry, paced: true,
			long: `retry lets held requests go on in the same run: they are called again, which may
make a second link. Attempts and possible duplicates are counted on. While the
account is paused or its gate is closed they wait.`,
			example: "  kyclink held retry A-1001\n  kyclink held retry --batch spring --dry-run\n  kyclink held retry --all --rate 50/s",
		}),
		s.newAct(act{
			action: "held.drop", use: "drop", short: "cancel held requests", done: "cancelled", do: dropHeld, final: true,
			long: `drop ends held requests as cancelled, with the event link.cancelled. A link that
comes late all the same is kept on the record. This cannot be undone; it asks first,
or needs --yes.`,
			example: "  kyclink held drop A-1001 A-1002\n  kyclink held drop --reason unusable_answer --before 72h",
		}),
	)
	return cmd
}

func dropHeld(ctx context.Context, d desk, r request.Record) (now request.Record, ok bool, err error) {
	ctx = context.WithoutCancel(ctx)
	if ok, err = d.Drop(ctx, r); err != nil || !ok {
		return r, ok, err
	}
	now, _, err = d.Get(ctx, r.ApplicationID)
	return now, true, err
}
