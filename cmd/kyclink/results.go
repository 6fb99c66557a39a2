package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/kyclink/kyclink/internal/legible"
	"github.com/kyclink/kyclink/internal/operator"
	"github.com/kyclink/kyclink/tasks"
)

func newResults() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "results",
		Short: "Read the results stream, show its consumers, and replay events",
		Long: `Read the results stream, show its consumers, and publish events again.

The end of each request is published once in the stream, as a line of JSON. A consumer
group gets each event at least once: an event is kept until the group has acknowledged
it, as long as the stream is below its cap. The ID of an event never changes.`,
		Args: subcommandOnly,
		RunE: showHelp,
	}
	cmd.AddCommand(newResultsFollow(), newResultsRead(), newResultsGroups(), newResultsLag(), newResultsReplay())
	return cmd
}

func newResultsFollow() *cobra.Command {
	return eventsCommand(&operator.Events{Follow: true}, &cobra.Command{
		Use:   "follow",
		Short: "Print events as they are published, until interrupted",
		Long: `Print each event as a line of JSON. Without --group, begin with the next event or at
--from, and acknowledge nothing.

With --group, events are shared among all consumers of the group, and acknowledged when
they have been written to standard output. A group that does not exist is created, and
begins with the oldest stored event or at --from. Give a consumer the same name each
time: it begins with the events that it has not acknowledged. Events of a consumer that
has been silent for a minute go to the others.`,
		Example: `  kyclink results follow
  kyclink results follow --from 1h | jq -r 'select(.type == "link.created") | .data.url'
  kyclink results follow --group crm --consumer "$HOSTNAME" >> events.ndjson`,
	})
}

func newResultsRead() *cobra.Command {
	return eventsCommand(&operator.Events{}, &cobra.Command{
		Use:   "read",
		Short: "Print the stored events and exit",
		Long: `Print events as "results follow" does, and exit when there are no more. Without --group,
begin with the oldest stored event.`,
		Example: `  kyclink results read --from 2026-12-01T00:00:00Z > december.ndjson
  kyclink results read --group crm >> events.ndjson`,
	})
}

// maxReader is the maximum length of a group's or a consumer's name, in bytes.
const maxReader = 1024

func eventsCommand(events *operator.Events, cmd *cobra.Command) *cobra.Command {
	cmd.Args = noArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkEvents(cmd, events); err != nil {
			return err
		}
		return withOperator(cmd, func(op *operator.Operator) error {
			defer endUnread(cmd, os.Stdout)()
			out := bufio.NewWriterSize(cmd.OutOrStdout(), 1<<16)
			events.Print = func(page []tasks.Event) error { return printEvents(out, page) }
			events.Warn = func(err error) { fmt.Fprintf(cmd.ErrOrStderr(), "kyclink: %v\n", err) }
			return stopped(cmd.Context(), events.Run(cmd.Context(), op))
		})
	}
	cmd.Flags().StringVar(&events.Group, "group", "", "read as a consumer of group `NAME`, and acknowledge the events")
	cmd.Flags().StringVar(&events.Consumer, "consumer", "", "`NAME` of the consumer within the group (default: the host name)")
	cmd.Flags().StringVar(&events.From, "from", "", "begin at `TIME`, or let a new group begin there: start, now, a time such as 2026-12-01T00:00:00Z, or an age such as 2h")
	cmd.Flags().Bool("json", true, "print events as lines of JSON, the only format")
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

// eventLine is an event as it is printed in JSON.
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
