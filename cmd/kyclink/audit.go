package main

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"os"
	"os/user"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kyclink/kyclink/internal/api"
	"github.com/kyclink/kyclink/internal/keyspace"
)

// audited is a change as it is printed. One without a key was made on the command
// line, by whom By says.
type audited struct {
	At        time.Time `json:"at"`
	Key       string    `json:"key,omitempty"`
	Name      string    `json:"name,omitempty"`
	By        string    `json:"by,omitempty"`
	Action    string    `json:"action"`
	Target    string    `json:"target,omitempty"`
	RequestID string    `json:"request_id,omitempty"`
}

func newAudit() *cobra.Command {
	var (
		since  string
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "show what was changed, by which API key or by whom, the newest last",
		Long: `audit prints each change that was made with an API key or by a command: when, by which
key or by which user on which host, what, and to what; the request id of a key's is in
the API's log and was in its answer. An erasure names no ids. The latest million
changes are kept.`,
		Example: "  kyclink audit --since 24h\n  kyclink audit --since 2026-11-23T08:00:00Z --json | jq 'select(.name==\"shop\")'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withShared(cmd, func(e *engine) error {
				var from time.Time
				if since != "" {
					now, err := keyspace.Keys{Account: e.cfg.Account}.Clock(cmd.Context(), e.rdb).Time()
					if err != nil {
						return fmt.Errorf("read the time: %w", err)
					}
					if from, err = instant(since, now); err != nil {
						return usageError(cmd, fmt.Errorf("--since: %w", err))
					}
				}
				w := bufio.NewWriter(cmd.OutOrStdout())
				for c, err := range api.NewTrail(e.rdb, e.cfg.Account).Changes(cmd.Context(), from) {
					if err == nil && asJSON {
						err = printJSON(w, audited{c.At, c.Key.ID, c.Key.Name, c.By, c.Action, c.Target, c.RequestID})
					} else if err == nil {
						_, err = fmt.Fprintln(w, auditLine(c))
					}
					if err != nil {
						return err
					}
				}
				return w.Flush()
			})
		},
	}
	cmd.Flags().StringVar(&since, "since", "", "only from then on: a time, or an age such as 24h")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print each as a line of JSON")
	return cmd
}

// audit records what a command is about to do, to each of the targets. It fails where
// that cannot be recorded, and then nothing may be done.
func (e *engine) audit(ctx context.Context, action string, targets ...string) error {
	trail, by := api.NewTrail(e.rdb, e.cfg.Account), whoami()
	if len(targets) == 0 {
		targets = []string{""}
	}
	for _, target := range targets {
		if err := trail.Append(ctx, api.Change{By: by, Action: action, Target: target}); err != nil {
			return err
		}
	}
	return nil
}

// whoami is user@host. A container's user may have no name.
func whoami() string {
	name := fmt.Sprintf("uid %d", os.Getuid())
	if u, err := user.Current(); err == nil && u.Username != "" {
		name = u.Username
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	return name + "@" + host
}

// auditLine starts with columns of a fixed width: a million lines are not aligned
// in memory.
func auditLine(c api.Change) string {
	by := cmp.Or(c.By, "command line") // as older versions did not say who
	if c.Key.ID != "" {
		by = c.Key.ID + " " + c.Key.Name
	}
	line := fmt.Sprintf("%s  %-24s  %-16s  %s", moment(c.At), by, c.Action, cmp.Or(c.Target, "-"))
	if c.RequestID != "" {
		line += "  request " + c.RequestID
	}
	return strings.TrimRight(line, " ")
}
