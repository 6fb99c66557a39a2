package main

import (
	"github.com/spf13/cobra"

	"github.com/kyclink/kyclink/internal/action"
	"github.com/kyclink/kyclink/internal/operator"
	"github.com/kyclink/kyclink/internal/request"
)

func newHeld() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "held",
		Short: "Show, retry and cancel held requests",
		Long: `Show, retry and cancel requests that need a decision by a person.

A request is held if a link may exist that nobody has received: FaceKi reported that it
created one, but its answer has no usable link (unusable_answer); or the outcome of a
call is unknown, and KYCLINK_ON_UNKNOWN is hold (unknown_outcome). FaceKi's API cannot
tell whether the link exists: look for the application ID in FaceKi's console. Then
retry the request, which may create and bill a second link, or drop it.`,
		Args: subcommandOnly,
		RunE: showHelp,
	}
	cmd.AddCommand(
		heldList().listCommand("List held requests, oldest first", "",
			"  kyclink held list\n  kyclink held list --reason unknown_outcome --since 24h --json"),
		heldList().actionCommand(listAction[request.Record]{
			kind: action.RetryHeld, use: "retry", short: "Retry held requests", do: (*operator.Operator).Retry,
			long: `Continue held requests in the same run. Each is called again, which may create and bill a
second link; attempts and possible duplicates add up. While the account is paused or its
gate is closed, the requests wait.`,
			example: "  kyclink held retry A-1001\n  kyclink held retry --batch spring --dry-run\n  kyclink held retry --all --rate 50/s",
		}),
		heldList().actionCommand(listAction[request.Record]{
			kind: action.DropHeld, use: "drop", short: "Cancel held requests",
			do: (*operator.Operator).Drop, noRate: true, final: true,
			long: `Cancel held requests, with the event link.cancelled. A link that still arrives is kept
in the record.

This cannot be undone: the command asks for confirmation unless --yes is given.`,
			example: "  kyclink held drop A-1001 A-1002\n  kyclink held drop --reason unusable_answer --before 72h --yes",
		}),
	)
	return cmd
}
