package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/kyclink/kyclink/internal/action"
	"github.com/kyclink/kyclink/internal/terminal"
)

func newActions() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "actions",
		Short: "List, follow and abort actions on many entries",
		Long: `List, follow and abort actions: retries and drops of all failed or held requests, or of
all given-up callbacks, that match a filter. They are started by "failed", "held",
"callbacks" and "batch retry", by the HTTP API and by the console. Workers carry them out,
also if the process that started an action has ended. Actions are kept for seven days
after their end.`,
		Args: subcommandOnly,
		RunE: showHelp,
	}
	cmd.AddCommand(newActionsList(), newActionsShow(), newActionsFollow(), newActionsAbort())
	return cmd
}

// actionsPage is how many actions are read at a time.
const actionsPage = 100

func newActionsList() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List actions, newest first",
		Example: "  kyclink actions list\n  kyclink actions list --json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withShared(cmd, func(e *engine) error {
				p := newPage(cmd)
				t := p.Table("ID", "ACTION", "STATE", "STARTED", "BY", "DONE", "SKIPPED", "OF")
				after, store := "", action.NewStore(e.rdb, e.cfg.Account)
				for more := true; more; {
					var page []action.Action
					var err error
					if page, more, err = store.List(cmd.Context(), after, actionsPage); err != nil {
						return stopped(cmd.Context(), err)
					}
					for _, a := range page {
						if after = a.ID; asJSON {
							err = printJSON(cmd.OutOrStdout(), a)
						} else {
							t.Row(actionRow(p, a)...)
						}
						if err != nil {
							return err
						}
					}
				}
				return t.Flush()
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print each as a line of JSON")
	return cmd
}

// actionRow returns an action as a row of a table. On a terminal, the IDs leave room for
// little else: who started an action is in "actions show".
func actionRow(p *terminal.Page, a action.Action) []terminal.Cell {
	done, skipped, matched, by := count(a.Counts.Done), count(a.Counts.Skipped.Total()), count(a.Counts.Matched), a.By
	if p.Terminal() {
		if a.Counts.Done != a.Counts.Matched {
			done += " of " + matched
		}
		if a.Counts.Skipped.Total() == 0 {
			skipped = ""
		}
		matched, by = "", ""
	}
	return []terminal.Cell{
		{Text: a.ID, Whole: true}, {Text: string(a.Kind)}, {Text: string(a.State)}, {Text: age(p, a.CreatedAt)}, {Text: by},
		{Text: done, Number: true}, {Text: skipped, Number: true}, {Text: matched, Number: true},
	}
}

func newActionsShow() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "show ID",
		Short:   "Show an action with its counts",
		Example: "  kyclink actions show 019a-… --json",
		Args:    one("the ID of an action, as kyclink actions list shows it"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withAction(cmd, args[0], func(_ *engine, a action.Action) error {
				if asJSON {
					return printJSON(cmd.OutOrStdout(), a)
				}
				return printAction(newPage(cmd), a)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return cmd
}

// withAction calls do with an action, and fails if there is none with this ID.
func withAction(cmd *cobra.Command, id string, do func(*engine, action.Action) error) error {
	return withShared(cmd, func(e *engine) error {
		return withActionOf(cmd.Context(), e, id, func(a action.Action) error { return do(e, a) })
	})
}

// withActionOf is withAction of a command that is connected already.
func withActionOf(ctx context.Context, e *engine, id string, do func(action.Action) error) error {
	a, ok, err := action.NewStore(e.rdb, e.cfg.Account).Get(ctx, id)
	if err != nil {
		return stopped(ctx, err)
	}
	if !ok {
		return fmt.Errorf("there is no action %q in account %q; to list the actions: kyclink actions list", id, e.cfg.Account)
	}
	return do(a)
}

// printAction prints an action, a line for each value.
func printAction(p *terminal.Page, a action.Action) error {
	f := p.Fields()
	f.AddTone("action", terminal.Heading, a.ID)
	f.Add("kind", string(a.Kind))
	f.Add("selects", a.Selects())
	f.Add("state", string(a.State))
	f.Add("because", a.Message)
	f.Add("matched", count(a.Counts.Matched))
	f.Add("  "+changes(a.Kind).verb, count(a.Counts.Done))
	f.Add("  skipped", count(a.Counts.Skipped.Total()))
	if n := a.Counts.Skipped.Unreadable; n > 0 {
		f.Add("  of these", count(n)+" damaged, or written by a newer version of kyclink")
	}
	f.Add("rate", a.Rate)
	f.Add("started by", a.By)
	f.Add("started", dated(p, a.CreatedAt))
	f.Add("ended", dated(p, a.EndedAt))
	return f.Flush()
}

func newActionsFollow() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "follow ID",
		Short: "Show the progress of an action until it has ended",
		Long: `Show the progress of an action until it has ended. If no worker carries the action out,
this command does. An interrupt ends only the command: workers continue the action.`,
		Example: "  kyclink actions follow 019a-…",
		Args:    one("the ID of an action, as kyclink actions list shows it"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withAction(cmd, args[0], func(e *engine, a action.Action) error {
				defer endUnread(cmd, os.Stdout, os.Stderr)()
				return followAction(cmd, e, a, asJSON, false)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the action when it has ended as JSON")
	return cmd
}

func newActionsAbort() *cobra.Command {
	return &cobra.Command{
		Use:   "abort ID",
		Short: "End a running action",
		Long: `End a running action. What it has changed stays changed, and entries that it is changing
at this moment, at most 50, are completed.`,
		Example: "  kyclink actions abort 019a-…",
		Args:    one("the ID of an action, as kyclink actions list shows it"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withAction(cmd, args[0], func(e *engine, a action.Action) error {
				if err := e.audit(cmd.Context(), "actions.abort", a.ID); err != nil {
					return err
				}
				return abortAction(cmd.Context(), cmd, e, a)
			})
		},
	}
}

func abortAction(ctx context.Context, cmd *cobra.Command, e *engine, a action.Action) error {
	store := action.NewStore(e.rdb, e.cfg.Account)
	before, err := store.Abort(ctx, a.ID)
	if err != nil {
		return stopped(ctx, err)
	}
	if before == action.Done {
		return fmt.Errorf("action %s is done and cannot be aborted", a.ID)
	}
	if now, ok, err := store.Get(ctx, a.ID); err == nil && ok {
		a = now
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "action %s is aborted: %s\n", a.ID, actionSummary(a))
	return err
}
