package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/kyclink/kyclink/internal/ledger"
	"github.com/kyclink/kyclink/internal/linkview"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

// story is a request as show prints it: its latest generation, the earlier ones,
// and what came of earlier runs.
type story struct {
	unendedLink
	Raw         string          `json:"raw,omitempty"`         // the request as it was stored, where it could not be handled
	Generations []tasks.Link    `json:"generations,omitempty"` // earlier ones, the latest first
	History     []historyEntry  `json:"history,omitempty"`     // of the latest generation, oldest first
	kept        bool            // the link of an attempt is kept until its host is allowed
	Deliveries  []deliveryStory `json:"deliveries,omitempty"` // of callbacks, of all generations, oldest first
}

type historyEntry struct {
	Run       int       `json:"run"`
	Status    string    `json:"status"`
	LinkID    string    `json:"link_id,omitempty"`
	URL       string    `json:"url,omitempty"`
	ExpiresAt time.Time `json:"expires_at,omitzero"`
	Reason    string    `json:"reason,omitempty"`
	Message   string    `json:"message,omitempty"`
	EndedAt   time.Time `json:"ended_at,omitzero"`
	LateLink  bool      `json:"late_link,omitempty"`
}

func newShow() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "show ID",
		Short:   "tell one request's whole story, its link included",
		Example: "  kyclink show A-1001\n  kyclink show A-1001 --json",
		Args:    one("an application id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withShared(cmd, func(e *engine) error {
				s, err := readStory(cmd.Context(), e, args[0])
				if err != nil {
					return err
				}
				return s.write(cmd.OutOrStdout(), asJSON)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	return cmd
}

func readStory(ctx context.Context, e *engine, id string) (story, error) {
	latest, err := e.producer(nil).Get(ctx, id)
	if errors.Is(err, tasks.ErrNotFound) {
		return story{}, fmt.Errorf("%s: %w in account %q", id, err, e.cfg.Account)
	}
	if err != nil {
		return story{}, err
	}
	records, err := ledger.New(e.rdb, ledger.Config{Account: e.cfg.Account}).Story(ctx, id)
	if err != nil {
		return story{}, err
	}
	s := tell(latest, records)
	if !latest.Status.Ended() {
		s.Diagnosis = e.why(ctx, latest)
	}
	d := e.desk()
	deliveries, err := d.Deliveries(ctx, id)
	if err == nil {
		s.Deliveries, err = d.tellDeliveries(ctx, deliveries)
	}
	return s, err
}

func tell(latest tasks.Link, records []request.Record) story {
	s := story{unendedLink: unendedLink{Link: latest}}
	for i, r := range records {
		if i > 0 {
			s.Generations = append(s.Generations, linkview.Of(r, latest.Batch, time.Now()))
			continue
		}
		s.Raw, s.kept = r.Outcome.Raw, r.KeptLink() != ""
		for _, o := range r.Past {
			s.History = append(s.History, historyEntry{o.Run, string(o.Status), o.LinkID, o.URL, o.ExpiresAt,
				o.Reason, o.Message, o.EndedAt, o.Late})
		}
	}
	return s
}

func (s story) write(w io.Writer, asJSON bool) error {
	if asJSON {
		return printJSON(w, s)
	}
	return s.print(w)
}

// advice is what a person can do.
func (s story) advice() string {
	switch s.Status {
	case tasks.Held:
		retry := "may make a second link"
		if s.kept {
			retry = "uses the link that is kept, and calls nobody"
		}
		return fmt.Sprintf("kyclink held retry %s (%s), or kyclink held drop %s (cancels it)", s.ApplicationID, retry, s.ApplicationID)
	case tasks.Failed:
		return "kyclink failed retry " + s.ApplicationID
	default:
		return ""
	}
}

func (s story) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(t, "%s\t%s\n", name, value)
		}
	}
	row("application id", s.ApplicationID)
	row("status", string(s.Status))
	row("reason", why(s.Reason, s.Message))
	if s.Status != tasks.Held { // the two rows around it say as much
		row("waits because", s.Diagnosis)
	}
	row("what to do", s.advice())
	row("url", s.URL)
	row("link id", s.LinkID)
	expires := moment(s.ExpiresAt)
	if s.Expired {
		expires += " (expired)"
	}
	row("expires", expires)
	row("lane", string(s.Lane))
	row("batch", s.Batch)
	row("generation, run", fmt.Sprintf("%d, %d", s.Generation, s.Run))
	row("attempts", fmt.Sprint(s.Attempts))
	row("possible duplicates", fmt.Sprint(s.PossibleDuplicates))
	row("accepted", moment(s.AcceptedAt))
	row("ended", moment(s.EndedAt))
	row("metadata", string(s.Metadata))
	row("stored as", s.Raw)
	for _, h := range s.History {
		what := fmt.Sprintf("%s %s %s %s", h.Status, moment(h.EndedAt), why(h.Reason, h.Message), h.URL)
		if h.LateLink {
			what = "a link came late: " + what
		}
		row(fmt.Sprintf("run %d", h.Run), what)
	}
	for _, g := range s.Generations {
		row(fmt.Sprintf("generation %d", g.Generation), fmt.Sprintf("%s %s %s %s", g.Status, moment(g.EndedAt), why(g.Reason, g.Message), g.URL))
	}
	for _, d := range s.Deliveries {
		row("callback", fmt.Sprintf("%s to %s: %s", d.Type, d.Host, d))
	}
	return t.Flush()
}

func why(reason, message string) string {
	if reason == "" || message == "" {
		return reason
	}
	return reason + ": " + message
}

// number says how many of things, as people say it.
func number(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}
