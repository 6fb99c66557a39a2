package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/kyclink/kyclink/internal/action"
	"github.com/kyclink/kyclink/internal/operator"
	"github.com/kyclink/kyclink/internal/request"
)

func newFailed() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "failed",
		Short: "Show, retry and hide failed requests",
		Long: `Show, retry and hide failed requests. A failed request has ended: FaceKi is not called
for it again until a person retries it. Failed requests are kept for KYCLINK_RETENTION.`,
		Args: subcommandOnly,
		RunE: showHelp,
	}
	cmd.AddCommand(
		newFailedList(),
		newFailedShow(),
		failedList().actionCommand(listAction[request.Record]{
			kind: action.RetryFailed, use: "retry", short: "Retry failed requests", do: (*operator.Operator).Retry,
			long: `Start a new run of failed requests. Each is called again and ends with a new event; its
history is kept, and its not_after is removed. While the account is paused or its gate is
closed, the requests wait. A request that fails again while the command runs is not
retried a second time.`,
			example: "  kyclink failed retry A-1001\n  kyclink failed retry --reason workflow_rules --dry-run\n  kyclink failed retry --batch spring --rate 50/s",
		}),
		failedList().actionCommand(listAction[request.Record]{
			kind: action.DropFailed, use: "drop", short: "Hide failed requests from the list and from --all",
			do: (*operator.Operator).Hide, noRate: true,
			long: `Hide failed requests from "failed list", and from what "failed retry" and "failed drop"
select without IDs. The requests stay failed: "show" still shows them, and "failed retry
ID" still retries them.`,
			example: "  kyclink failed drop A-1001\n  kyclink failed drop --reason invalid_request --before 720h",
		}),
	)
	return cmd
}

func newFailedList() *cobra.Command {
	cmd := failedList().listCommand("List failed requests, oldest first",
		`List failed requests, oldest first. Requests that are hidden (see "failed drop") are
listed only if their IDs are given.`,
		"  kyclink failed list\n  kyclink failed list --batch spring --reason workflow_rules\n  kyclink failed list --since 24h --json\n  kyclink failed list --quarantined")
	listRequests := cmd.RunE
	var quarantined bool
	for _, name := range []string{"quarantined", "aside"} { // the latter is its former name
		cmd.Flags().BoolVar(&quarantined, name, false, "list tasks and records that no worker could decode instead, latest first, as lines of JSON")
	}
	_ = cmd.Flags().MarkHidden("aside")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !quarantined {
			return listRequests(cmd, args)
		}
		for _, name := range []string{"reason", "batch", "since", "before"} {
			if len(args) > 0 || cmd.Flags().Changed(name) {
				return usageError(cmd, errors.New("--quarantined lists all entries, which have no IDs or reasons; omit IDs and all flags but --json"))
			}
		}
		return withOperator(cmd, func(op *operator.Operator) error {
			for entry, err := range op.Quarantined(cmd.Context()) {
				if err == nil {
					err = printJSON(cmd.OutOrStdout(), entry)
				}
				if err != nil {
					return stopped(cmd.Context(), err)
				}
			}
			return nil
		})
	}
	return cmd
}

func newFailedShow() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "show ID",
		Short:   "Show the history of a failed request",
		Example: "  kyclink failed show A-1001\n  kyclink failed show A-1001 --json",
		Args:    one("an application ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withOperator(cmd, func(op *operator.Operator) error {
				h, err := op.History(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				if request.State(h.Status) != request.Failed {
					return fmt.Errorf("%s is %s, not failed; to show its history: kyclink show %s", args[0], h.Status, args[0])
				}
				return printHistory(cmd, h, asJSON)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return cmd
}
