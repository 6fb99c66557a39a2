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

	"github.com/kyclink/kyclink/internal/audit"
	"github.com/kyclink/kyclink/internal/operator"
)

// auditEntry is a change as it is printed in JSON. A change without a key was made by a
// command that By ran.
type auditEntry struct {
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
		Short: "Show the audit trail, oldest change first",
		Long: `Print each change that was made with an API key or by a command: the time, the key or the
user and host, the action and its target. The request ID of a change by a key is also in
the API's log and in its response. Entries of erasures contain no application IDs. The
latest million changes are kept.`,
		Example: "  kyclink audit --since 24h\n  kyclink audit --since 2026-11-23T08:00:00Z --json | jq 'select(.name==\"shop\")'",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withShared(cmd, func(e *engine) error {
				var from time.Time
				if since != "" {
					now, err := e.operator().Now(cmd.Context())
					if err != nil {
						return err
					}
					if from, err = operator.ParseTime(since, now); err != nil {
						return usageError(cmd, fmt.Errorf("--since: %w", err))
					}
				}
				w := bufio.NewWriter(cmd.OutOrStdout())
				for c, err := range audit.NewTrail(e.rdb, e.cfg.Account).Changes(cmd.Context(), from) {
					if err == nil && asJSON {
						err = printJSON(w, auditEntry{c.At, c.Key.ID, c.Key.Name, c.By, c.Action, c.Target, c.RequestID})
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
	cmd.Flags().StringVar(&since, "since", "", "only changes at or after `TIME`, such as 2026-12-01T00:00:00Z, or an age such as 24h")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print each as a line of JSON")
	return cmd
}

// audit records what a command is about to do to each of the targets. If recording fails,
// the command must not continue.
func (e *engine) audit(ctx context.Context, action string, targets ...string) error {
	trail, by := audit.NewTrail(e.rdb, e.cfg.Account), whoami()
	if len(targets) == 0 {
		targets = []string{""}
	}
	for _, target := range targets {
		if err := trail.Append(ctx, audit.Change{By: by, Action: action, Target: target}); err != nil {
			return err
		}
	}
	return nil
}

// whoami returns user@host, with the user's ID if the user has no name, as in a container.
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

// auditLine formats a change in columns of a fixed width: to align a million lines, all of
// them would have to be in memory.
func auditLine(c audit.Change) string {
	by := cmp.Or(c.By, "command line") // older versions did not record the user
	if c.Key.ID != "" {
		by = c.Key.ID + " " + c.Key.Name
	}
	line := fmt.Sprintf("%s  %-24s  %-16s  %s", moment(c.At), by, c.Action, cmp.Or(c.Target, "-"))
	if c.RequestID != "" {
		line += "  request " + c.RequestID
	}
	return strings.TrimRight(line, " ")
}
