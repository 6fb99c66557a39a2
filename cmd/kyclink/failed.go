package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/request"
)

func newFailed() *cobra.Command {
	s := shelf{request.Failed, fault.Ends()}
	cmd := &cobra.Command{
		Use:   "failed",
		Short: "requests that failed: look, try again, or put aside",
		Long: `A failed request is over: nothing calls FaceKi for it again until a person retries
it. All of them are kept, however many they are, until their retention is over.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		s.newFailedList(),
		newFailedShow(),
		s.newAct(act{
			action: "failed.retry", use: "retry", short: "try failed requests again", done: "retried", do: retry, paced: true,
			long: `retry starts a new run of failed requests: each gets a new end, with an event id of
its own, and keeps its history. Its not_after is dropped. While the account is
paused or its gate is closed they wait. What fails again meanwhile is not retried
by the same command.`,
			example: "  kyclink failed retry A-1001\n  kyclink failed retry --reason workflow_rules --dry-run\n  kyclink failed retry --batch spring --rate 50/s",
		}),
		s.newAct(act{
			action: "failed.drop", use: "drop", short: "hide failed requests from list and --all", done: "hidden", do: hideFailed,
			long: `drop hides failed requests from list, and from what retry and drop choose without
an id. They stay failed: show tells of them, and retry ID still retries them.`,
			example: "  kyclink failed drop A-1001\n  kyclink failed drop --reason invalid_request --before 720h",
		}),
	)
	return cmd
}

// newFailedList lists what was put aside as well, which is no request that could
// be named.
func (s shelf) newFailedList() *cobra.Command {
	cmd := s.newList("list shows failed requests, but for those that were dropped: they are found by their ids.",
		"  kyclink failed list\n  kyclink failed list --batch spring --reason workflow_rules\n  kyclink failed list --since 24h --json")
	requests := cmd.RunE
	aside := cmd.Flags().Bool("aside", false, "list the tasks and records instead that no worker could read, the latest first, as lines of JSON")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !*aside {
			return requests(cmd, args)
		}
		for _, name := range []string{"reason", "batch", "since", "before"} {
			if len(args) > 0 || cmd.Flags().Changed(name) {
				return usageError(cmd, errors.New("--aside: what was put aside has neither id nor reason to choose it by; give --aside alone"))
			}
		}
		return withShared(cmd, func(e *engine) error {
			for poison, err := range e.desk().Aside(cmd.Context()) {
				if err != nil {
					return stopped(cmd.Context(), err)
				}
				if err := printJSON(cmd.OutOrStdout(), poison); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return cmd
}

func hideFailed(ctx context.Context, d desk, r request.Record) (now request.Record, ok bool, err error) {
	ok, err = d.Hide(context.WithoutCancel(ctx), r)
	return r, ok, err
}

func newFailedShow() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "show ID",
		Short:   "tell a failed request's whole story",
		Example: "  kyclink failed show A-1001\n  kyclink failed show A-1001 --json",
		Args:    one("an application id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withShared(cmd, func(e *engine) error {
				s, err := readStory(cmd.Context(), e, args[0])
				if err != nil {
					return err
				}
				if request.State(s.Status) != request.Failed {
					return fmt.Errorf("%s is %s, not failed; its story: kyclink show %s", args[0], s.Status, args[0])
				}
				return s.write(cmd.OutOrStdout(), asJSON)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	return cmd
}
