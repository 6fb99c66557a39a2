package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/kyclink/kyclink/internal/forecast"
	"github.com/kyclink/kyclink/internal/operator"
	"github.com/kyclink/kyclink/internal/results"
	"github.com/kyclink/kyclink/internal/terminal"
)

// withResults calls do with the state of the results stream.
func withResults(cmd *cobra.Command, do func(results.Status) error) error {
	return withOperator(cmd, func(op *operator.Operator) error {
		r, err := op.Results(cmd.Context())
		if err != nil {
			return stopped(cmd.Context(), err)
		}
		return do(r)
	})
}

func newResultsGroups() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "groups",
		Short: "List consumer groups with their lag",
		Long: `Show for each consumer group how many events it has not read (lag), how many it has read
but not acknowledged (pending), the age of the oldest of these (behind), and how long all
of its consumers have been silent (idle).

Events that a live group has not acknowledged are kept, as long as the stream is below
its cap. A group is no longer live after 7 days without activity. To delete a group that
nobody needs:

  redis-cli XGROUP DESTROY '{kyclink:default}:results' GROUP`,
		Example: "  kyclink results groups\n  kyclink results groups --json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withResults(cmd, func(r results.Status) error {
				if !asJSON {
					return printGroups(newPage(cmd), r.Groups)
				}
				for _, g := range r.Groups {
					if err := printJSON(cmd.OutOrStdout(), g); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print each as a line of JSON")
	return cmd
}

func printGroups(p *terminal.Page, groups []results.Group) error {
	t := p.Table("group", "consumers", "lag", "pending", "behind", "idle", "")
	t.Headed = true
	for _, g := range groups {
		lag, note := count(g.Lag), ""
		if g.LagAtLeast {
			lag = "over " + lag
		}
		if !g.Live {
			note = "not live"
		}
		number := func(text string) terminal.Cell { return terminal.Cell{Text: text, Number: true} }
		t.Row(terminal.Cell{Text: g.Group, Whole: true}, number(count(g.Consumers)), number(lag), number(count(g.Pending)),
			number(seconds(g.Behind)), number(seconds(g.Idle)), terminal.Cell{Text: note, Tone: terminal.Warning})
	}
	return t.Flush()
}

// seconds formats a number of seconds as a rounded duration.
func seconds(n float64) string {
	d := time.Duration(n * float64(time.Second))
	if d >= time.Minute {
		return forecast.Short(d.Round(time.Second))
	}
	return d.Round(10 * time.Millisecond).String()
}

// groupLag is the lag of a group and the size of the stream, in JSON.
type groupLag struct {
	Group   string  `json:"group,omitempty"`
	Lag     int     `json:"lag"` // events that are not acknowledged
	Behind  float64 `json:"behind_seconds"`
	Length  int     `json:"length"`
	Cap     int     `json:"cap"`
	Dropped int     `json:"dropped"` // events that the cap has removed so far
}

func newResultsLag() *cobra.Command {
	var group string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "lag",
		Short: "Print how many events a group has not acknowledged",
		Long: `Print the number of events that a group has not acknowledged; without --group, that of
the live group that is furthest behind. The number is 0 if there is no live group.

With --json, also print the age of the oldest of these events, the length and the cap of
the stream, and how many events the cap has removed so far.`,
		Example: `  kyclink results lag
  [ "$(kyclink results lag --group crm)" -lt 10000 ] || echo "crm is behind"
  kyclink results lag --json | jq '.length / .cap'`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withResults(cmd, func(r results.Status) error {
				g, ok := r.Slowest()
				if cmd.Flags().Changed("group") {
					at := slices.IndexFunc(r.Groups, func(g results.Group) bool { return g.Group == group })
					if at < 0 {
						return fmt.Errorf("there is no group %q; to list the groups: kyclink results groups", group)
					}
					g = r.Groups[at]
				} else if !ok {
					fmt.Fprintln(cmd.ErrOrStderr(), "kyclink: no live group reads the results stream")
				}
				if asJSON {
					return printJSON(cmd.OutOrStdout(), groupLag{g.Group, g.Unacknowledged(), g.Behind, r.Length, r.Cap, r.Dropped})
				}
				_, err := fmt.Fprintln(cmd.OutOrStdout(), g.Unacknowledged())
				return err
			})
		},
	}
	cmd.Flags().StringVar(&group, "group", "", "the lag of group `NAME` (default: the live group that is furthest behind)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON, with the length of the stream")
	return cmd
}
