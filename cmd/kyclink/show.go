package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/kyclink/kyclink/internal/operator"
	"github.com/kyclink/kyclink/tasks"
)

func newShow() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "show ID",
		Short:   "Show the history of a request, with its link",
		Example: "  kyclink show A-1001\n  kyclink show A-1001 --json",
		Args:    one("an application ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withOperator(cmd, func(op *operator.Operator) error {
				h, err := op.History(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				return printHistory(cmd.OutOrStdout(), h, asJSON)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return cmd
}

// printHistory prints what is stored of a request, a line for each value.
func printHistory(w io.Writer, h operator.History, asJSON bool) error {
	if asJSON {
		return printJSON(w, h)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	field := fields(t)
	field("application ID", h.ApplicationID)
	field("status", string(h.Status))
	field("reason", reasonText(h.Reason, h.Message))
	todo := advice(h)
	if h.Diagnosis != nil && h.Status != tasks.Held { // for a held one, the other fields say the same
		field("why no link", h.Diagnosis.Text)
		todo = h.Diagnosis.Next
	}
	field("what to do", todo)
	field("url", h.URL)
	field("link ID", h.LinkID)
	expires := moment(h.ExpiresAt)
	if h.Expired {
		expires += " (expired)"
	}
	field("expires", expires)
	field("lane", string(h.Lane))
	field("batch", h.Batch)
	field("generation, run", fmt.Sprintf("%d, %d", h.Generation, h.Run))
	field("attempts", fmt.Sprint(h.Attempts))
	field("possible duplicates", fmt.Sprint(h.PossibleDuplicates))
	field("accepted", moment(h.AcceptedAt))
	field("ended", moment(h.EndedAt))
	field("metadata", string(h.Metadata))
	field("stored as", h.Raw)
	for _, r := range h.Runs {
		outcome := fmt.Sprintf("%s %s %s %s", r.Status, moment(r.EndedAt), reasonText(r.Reason, r.Message), r.URL)
		if r.LateLink {
			outcome = "late link: " + outcome
		}
		field(fmt.Sprintf("run %d", r.Run), outcome)
	}
	for _, g := range h.Generations {
		field(fmt.Sprintf("generation %d", g.Generation), fmt.Sprintf("%s %s %s %s", g.Status, moment(g.EndedAt), reasonText(g.Reason, g.Message), g.URL))
	}
	for _, d := range h.Deliveries {
		field("callback", fmt.Sprintf("%s to %s: %s", d.Type, d.Host, deliveryRow{d}.status()))
	}
	return t.Flush()
}

// advice returns what a person can do about a held or failed request.
func advice(h operator.History) string {
	switch h.Status {
	case tasks.Held:
		retry := "may create and bill a second link"
		if h.HasKeptLink {
			retry = "uses the link that was kept, without a call"
		}
		return fmt.Sprintf("kyclink held retry %s (%s), or kyclink held drop %s (cancels it)", h.ApplicationID, retry, h.ApplicationID)
	case tasks.Failed:
		return "kyclink failed retry " + h.ApplicationID
	default:
		return ""
	}
}
