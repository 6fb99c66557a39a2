package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kyclink/kyclink/internal/operator"
	"github.com/kyclink/kyclink/internal/terminal"
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
				return printHistory(cmd, h, asJSON)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return cmd
}

// printHistory prints what is stored of a request, a line for each value.
func printHistory(cmd *cobra.Command, h operator.History, asJSON bool) error {
	if asJSON {
		return printJSON(cmd.OutOrStdout(), h)
	}
	p := newPage(cmd)
	f := p.Fields()
	f.AddTone("application ID", terminal.Heading, h.ApplicationID)
	f.AddTone("status", stateTone(h.Status), string(h.Status))
	f.Add("reason", reasonText(h.Reason, h.Message))
	todo := advice(h)
	if h.Diagnosis != nil && h.Status != tasks.Held { // for a held one, the other fields say the same
		f.AddTone("why no link", tone(h.Diagnosis.State), h.Diagnosis.Text)
		todo = h.Diagnosis.Next
	}
	f.AddTone("what to do", terminal.Heading, todo)
	f.Add("url", h.URL)
	f.Add("link ID", h.LinkID)
	expires := dated(p, h.ExpiresAt)
	if h.Expired {
		expires = moment(h.ExpiresAt) + " (expired)"
	}
	f.Add("expires", expires)
	f.Add("lane", string(h.Lane))
	f.Add("batch", h.Batch)
	f.Add("generation, run", fmt.Sprintf("%d, %d", h.Generation, h.Run))
	f.Add("attempts", fmt.Sprint(h.Attempts))
	f.Add("possible duplicates", fmt.Sprint(h.PossibleDuplicates))
	f.Add("accepted", dated(p, h.AcceptedAt))
	f.Add("ended", dated(p, h.EndedAt))
	f.Add("metadata", string(h.Metadata))
	f.Add("stored as", h.Raw)
	for _, c := range h.Calls {
		f.Add(fmt.Sprintf("attempt %d", c.Attempt), callText(c))
	}
	for _, r := range h.Runs {
		outcome := outcome(r.Status, r.EndedAt, reasonText(r.Reason, r.Message), r.URL)
		if r.LateLink {
			outcome = "late link: " + outcome
		}
		f.Add(fmt.Sprintf("run %d", r.Run), outcome)
	}
	for _, g := range h.Generations {
		f.Add(fmt.Sprintf("generation %d", g.Generation), outcome(string(g.Status), g.EndedAt, reasonText(g.Reason, g.Message), g.URL))
	}
	for _, d := range h.Deliveries {
		f.Add("callback", fmt.Sprintf("%s to %s: %s", d.Type, d.Host, deliveryRow{d}.status(p)))
	}
	for _, event := range h.Unreadable {
		f.Add("callback", event+": damaged, or written by a newer version of kyclink")
	}
	return f.Flush()
}

// callText describes a call to FaceKi.
func callText(c operator.Call) string {
	outcome := map[string]string{"no_link": "no link", "unknown": "may have created a link"}
	text := fmt.Sprintf("%s, %s", moment(c.At), cmp.Or(outcome[c.Outcome], c.Outcome))
	if took := c.Duration(); took != "" {
		text += " after " + took
	}
	if why := reasonText(c.Reason, c.Message); why != "" {
		text += ", " + why
	}
	return text
}

// outcome describes how a run or a generation ended.
func outcome(status string, at time.Time, reason, url string) string {
	parts := slices.DeleteFunc([]string{status, moment(at), reason, url}, func(part string) bool { return part == "" })
	return strings.Join(parts, " ")
}

// stateTone returns the tone of the state of a request.
func stateTone(s tasks.Status) terminal.Tone {
	switch s {
	case tasks.Created:
		return terminal.Good
	case tasks.Failed:
		return terminal.Bad
	case tasks.Held, tasks.Cancelled:
		return terminal.Warning
	default:
		return terminal.Plain
	}
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
