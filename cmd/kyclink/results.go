package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/kyclink/kyclink/internal/legible"
	"github.com/kyclink/kyclink/internal/operator"
	"github.com/kyclink/kyclink/tasks"
)

func newResults() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "results",
		Short: "Read the stream of events, watch its consumers, and publish events again",
		Long: `Read the stream in which every end of a request is published once, as lines of JSON. A
group gets every event at least once: an event is kept until the group has acknowledged
it, while the stream is below its cap. The ID of an event is always the same.`,
		Args: subcommandOnly,
		RunE: showHelp,
	}
	cmd.AddCommand(newResultsFollow(), newResultsRead(), newResultsGroups(), newResultsLag(), newResultsReplay())
	return cmd
}

func newResultsFollow() *cobra.Command {
	return eventsCommand(&operator.Events{Follow: true}, &cobra.Command{
		Use:   "follow",
		Short: "Print events as they are published, until it is interrupted",
		Long: `Print each event as a line of JSON. Without a group it begins with the next event, or
with --from, and nothing is acknowledged.

With --group the events are shared among all consumers of that group, and acknowledged
once they are written to standard output. A group that does not exist is created, and
begins with the oldest event that is kept, or with --from. Give a consumer the same name
each time: it begins with what it had not acknowledged. Events of a consumer that was
silent for a minute go to the others.`,
		Example: `  kyclink results follow
  kyclink results follow --from 1h | jq -r 'select(.type == "link.created") | .data.url'
  kyclink results follow --group crm --consumer "$HOSTNAME" >> events.ndjson`,
	})
}

func newResultsRead() *cobra.Command {
	return eventsCommand(&operator.Events{}, &cobra.Command{
		Use:   "read",
		Short: "Print the existing events, and end",
		Long: `Print events as "results follow" does, and end when there are no more. Without a group
it begins with the oldest event that is kept.`,
		Example: `  kyclink results read --from 2026-12-01T00:00:00Z > december.ndjson
  kyclink results read --group crm >> events.ndjson`,
	})
}

// maxReader is how many bytes a group's or a consumer's name may have.
const maxReader = 1024

func eventsCommand(events *operator.Events, cmd *cobra.Command) *cobra.Command {
	cmd.Args = noArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkEvents(cmd, events); err != nil {
			return err
		}
		return withOperator(cmd, func(op *operator.Operator) error {
			out := bufio.NewWriterSize(cmd.OutOrStdout(), 1<<16)
			events.Print = func(page []tasks.Event) error { return printEvents(out, page) }
			events.Warn = func(err error) { fmt.Fprintf(cmd.ErrOrStderr(), "kyclink: %v\n", err) }
			return stopped(cmd.Context(), events.Run(cmd.Context(), op))
		})
	}
	cmd.Flags().StringVar(&events.Group, "group", "", "share the events with all consumers of group `NAME`, and acknowledge them")
	cmd.Flags().StringVar(&events.Consumer, "consumer", "", "`NAME` within the group (default: the host's)")
	cmd.Flags().StringVar(&events.From, "from", "", "begin, or let a new group begin, at `TIME`: start, now, a time such as 2026-12-01T00:00:00Z, or an age such as 2h")
	cmd.Flags().Bool("json", true, "print lines of JSON; there is no other format")
	return cmd
}

func checkEvents(cmd *cobra.Command, e *operator.Events) error {
	if e.Consumer != "" && e.Group == "" {
		return usageError(cmd, errors.New("--consumer needs --group"))
	}
	for flag, name := range map[string]string{"group": e.Group, "consumer": e.Consumer} {
		if problem := legible.WrongName(name, maxReader); name != "" && problem != "" {
			return usageError(cmd, fmt.Errorf("--%s: the name %s", flag, problem))
		}
	}
	if e.From == "" || e.From == "start" || e.From == "now" {
		return nil
	}
	if _, err := operator.ParseTime(e.From, time.Now()); err != nil {
		return usageError(cmd, fmt.Errorf("--from: %w, nor start or now", err))
	}
	return nil
}

// eventLine is an event as it is printed.
type eventLine struct {
	ID     string `json:"id"`
	Replay bool   `json:"replay,omitempty"`
	tasks.Event
}

func printEvents(out *bufio.Writer, events []tasks.Event) error {
	lines := json.NewEncoder(out)
	lines.SetEscapeHTML(false)
	for _, e := range events {
		if err := lines.Encode(eventLine{e.ID, e.Replay, e}); err != nil {
			return err
		}
	}
	return out.Flush()
}
