package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/legible"
	"github.com/kyclink/kyclink/tasks"
)

func newResults() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "results",
		Short: "the stream of events: read it, see who is behind, publish again",
		Long: `results reads the stream in which every end of a request is published once, as lines
of JSON. A group gets every event at least once: what its consumers share among them
is kept until it was acknowledged, while the stream is below its cap. The id of an
event is the same however often it comes.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newResultsFollow(), newResultsRead(), newResultsGroups(), newResultsLag(), newResultsReplay())
	return cmd
}

// resultsReader prints events.
type resultsReader struct {
	group, consumer, from string
	follow                bool
}

// printAtOnce is how many events are printed, and then acknowledged, at a time.
const printAtOnce = 500

func newResultsFollow() *cobra.Command {
	r := &resultsReader{follow: true}
	return r.command(&cobra.Command{
		Use:   "follow",
		Short: "print events as they come, until it is stopped",
		Long: `follow prints each event as a line of JSON. Without a group it begins with what comes
from now on, or with --from, and nobody knows that it read anything.

With --group the events are shared among all who read as that group, and are
acknowledged when they were written to standard output. A group is made where it is
not there yet, and begins with the oldest event that is kept, or with --from. Give a
consumer the same name each time: it begins with what it had not acknowledged. What
another had that was not heard of for a minute goes to those who live.`,
		Example: `  kyclink results follow
  kyclink results follow --from 1h | jq -r 'select(.type == "link.created") | .data.url'
  kyclink results follow --group crm --consumer "$HOSTNAME" >> events.ndjson`,
	})
}

func newResultsRead() *cobra.Command {
	r := &resultsReader{}
	return r.command(&cobra.Command{
		Use:   "read",
		Short: "print the events that are there, and end",
		Long: `read is follow that ends when there is nothing more. Without a group it begins with
the oldest event that is kept.`,
		Example: `  kyclink results read --from 2026-12-01T00:00:00Z > december.ndjson
  kyclink results read --group crm >> events.ndjson`,
	})
}

// maxReader is how many bytes a group's or a consumer's name may have.
const maxReader = 1024

func (r *resultsReader) command(cmd *cobra.Command) *cobra.Command {
	cmd.Args = cobra.NoArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if r.consumer != "" && r.group == "" {
			return usageError(cmd, errors.New("--consumer is one of a group; give --group, too"))
		}
		for flag, name := range map[string]string{"group": r.group, "consumer": r.consumer} {
			if problem := legible.WrongName(name, maxReader); name != "" && problem != "" {
				return usageError(cmd, fmt.Errorf("--%s: the name %s", flag, problem))
			}
		}
		return withShared(cmd, func(e *engine) error { return r.run(cmd, e) })
	}
	cmd.Flags().StringVar(&r.group, "group", "", "share the events with all who read as this group, and acknowledge them")
	cmd.Flags().StringVar(&r.consumer, "consumer", "", "name within the group (default: the host's)")
	cmd.Flags().StringVar(&r.from, "from", "", "where to begin, or where a new group does: start, now, a time such as 2026-12-01T00:00:00Z, or an age such as 2h")
	cmd.Flags().Bool("json", true, "lines of JSON; there is nothing else")
	return cmd
}

func (r *resultsReader) run(cmd *cobra.Command, e *engine) error {
	ctx := cmd.Context()
	after, err := r.after(ctx, e)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(cmd.OutOrStdout(), 1<<16)
	tell := func(err error) { fmt.Fprintf(cmd.ErrOrStderr(), "kyclink: %v\n", err) }
	if r.group == "" {
		err = r.plain(ctx, e, after, out, tell)
	} else {
		err = r.shared(ctx, e, after, out, tell)
	}
	return stopped(ctx, errors.Join(err, ctx.Err()))
}

// after is the id of the entry after which to begin.
func (r *resultsReader) after(ctx context.Context, e *engine) (string, error) {
	switch {
	case r.from == "start", r.from == "" && (!r.follow || r.group != ""):
		return "0", nil
	case r.from == "now", r.from == "":
		return "$", nil
	}
	now, err := keyspace.Keys{Account: e.cfg.Account}.Clock(ctx, e.rdb).Time()
	if err != nil {
		return "", fmt.Errorf("read the time: %w", err)
	}
	from, err := instant(r.from, now)
	if err != nil {
		return "", fmt.Errorf("--from: %w", err)
	}
	return fmt.Sprintf("%d-%d", max(from.UnixMilli()-1, 0), uint64(math.MaxUint64)), nil
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

// shared reads as one of a group. What cannot be written ends it.
func (r *resultsReader) shared(ctx context.Context, e *engine, after string, out *bufio.Writer, tell func(error)) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	results := tasks.NewResults(e.rdb, tasks.ResultsConfig{
		Account: e.cfg.Account, Group: r.group, Consumer: r.consumer, From: after, Concurrency: 1,
		OnError: func(err error) {
			if _, ours := errors.AsType[*writeError](err); !ours {
				tell(err)
			}
		},
	})
	read := results.Drain
	if r.follow {
		read = results.RunBatches
	}
	err := read(ctx, printAtOnce, func(_ context.Context, events []tasks.Event) error {
		if err := printEvents(out, events); err != nil {
			stop(&writeError{err})
			return &writeError{err}
		}
		return nil
	})
	if failed, ok := errors.AsType[*writeError](context.Cause(ctx)); ok {
		return failed
	}
	return err
}

// writeError says that events could not be printed.
type writeError struct{ err error }

func (e *writeError) Error() string {
	return fmt.Sprintf("write the events: %v; what was not written is not acknowledged", e.err)
}

func (e *writeError) Unwrap() error { return e.err }

// plain reads as nobody in particular.
func (r *resultsReader) plain(ctx context.Context, e *engine, after string, out *bufio.Writer, tell func(error)) error {
	key := keyspace.Keys{Account: e.cfg.Account}.Results()
	if after == "$" {
		last, err := e.rdb.XRevRangeN(ctx, key, "+", "-", 1).Result()
		if err != nil {
			return fmt.Errorf("read the results stream: %w", err)
		}
		after = "0"
		if len(last) > 0 {
			after = last[0].ID
		}
	}
	for away := false; ctx.Err() == nil; {
		entries, err := r.next(ctx, e.rdb, key, after)
		if err != nil && (!r.follow || ctx.Err() != nil) {
			return fmt.Errorf("read the results stream: %w", err)
		}
		if err != nil {
			if !away {
				tell(fmt.Errorf("read the results stream: %w; trying again every second", err))
			}
			away = true
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
			continue
		}
		if away = false; len(entries) == 0 && !r.follow {
			return nil
		}
		events := make([]tasks.Event, 0, len(entries))
		for _, entry := range entries {
			after = entry.ID
			event, err := tasks.ParseEvent(entry.Values)
			if err != nil {
				tell(fmt.Errorf("entry %s is passed over: %w", entry.ID, err))
				continue
			}
			events = append(events, event)
		}
		if err := printEvents(out, events); err != nil {
			return fmt.Errorf("write the events: %w", err)
		}
	}
	return nil
}

func (r *resultsReader) next(ctx context.Context, rdb redis.UniversalClient, key, after string) ([]redis.XMessage, error) {
	if !r.follow {
		return rdb.XRangeN(ctx, key, "("+after, "+", printAtOnce).Result()
	}
	streams, err := rdb.XRead(ctx, &redis.XReadArgs{Streams: []string{key, after}, Count: printAtOnce, Block: time.Second}).Result()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	if err != nil || len(streams) == 0 {
		return nil, err
	}
	return streams[0].Messages, nil
}
