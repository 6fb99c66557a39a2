package main

import (
	"cmp"
	"context"
	"fmt"
	"iter"

	"github.com/spf13/cobra"

	"github.com/kyclink/kyclink/internal/action"
	"github.com/kyclink/kyclink/internal/deadletter"
	"github.com/kyclink/kyclink/internal/delivery"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/operator"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/terminal"
)

func newCallbacks() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "callbacks",
		Short: "Show and retry undelivered callbacks, and test a receiver",
		Long: `Show and retry callbacks that were not delivered, and test a receiver.

A callback that is not answered with 2xx is retried: nine attempts over about 21 hours.
Redirects are not followed. A callback is given up after the last attempt, or at once if
its receiver answers with 410 or must not be called. Given-up callbacks are kept as long
as their requests.

ID is an application ID, or the ID of an event (webhook-id).`,
		Args: subcommandOnly,
		RunE: showHelp,
	}
	cmd.AddCommand(
		deliveryList(true).listCommand("List given-up callbacks, and those that are being retried",
			`List callbacks that were given up, oldest first, with the receiver's last answer; then
those that failed and will be retried, next one first. Callbacks that are hidden (see
"callbacks drop") are listed only if their IDs are given.`,
			"  kyclink callbacks list\n  kyclink callbacks list --host shop.example --reason timeout\n  kyclink callbacks list --since 24h --json"),
		newCallbacksShow(),
		deliveryList(false).actionCommand(listAction[delivery.Delivery]{
			kind: action.RetryDeliveries, use: "retry", short: "Retry given-up callbacks",
			do: (*operator.Operator).RetryDelivery,
			long: `Let the workers deliver given-up callbacks again, with the same event ID and nine new
attempts. A callback stays in "callbacks list" until a worker starts to deliver it.`,
			example: "  kyclink callbacks retry A-1001\n  kyclink callbacks retry --host shop.example --dry-run\n  kyclink callbacks retry --all --rate 50/s",
		}),
		deliveryList(false).actionCommand(listAction[delivery.Delivery]{
			kind: action.DropDeliveries, use: "drop", short: "Hide given-up callbacks from the list and from --all",
			do: (*operator.Operator).HideDelivery,
			long: `Hide given-up callbacks from "callbacks list", and from what "callbacks retry" and
"callbacks drop" select without IDs. The callbacks stay given up: "callbacks show" still
shows them, and "callbacks retry ID" still retries them.`,
			example: "  kyclink callbacks drop A-1001\n  kyclink callbacks drop --reason rejected --before 720h",
		}),
		newCallbacksTest(), newCallbacksSecret(),
	)
	return cmd
}

// deliveryList returns the list of given-up deliveries. With pending, it includes
// deliveries that failed and will be retried.
func deliveryList(pending bool) *deadLetters[delivery.Delivery] {
	l := &deadLetters[delivery.Delivery]{
		are: "callback fails", noun: "given-up callback", ids: "IDs", came: "were given up, or last tried,", hosts: true,
		headings: []string{"APPLICATION ID", "TYPE", "HOST", "STATUS"},
		next:     "To see one: kyclink callbacks show ID. To retry some: kyclink callbacks retry --help",
		reasons:  fault.Undelivered(),
	}
	none := "no callback was given up"
	if pending {
		l.reasons = append(l.reasons, fault.ProxyError)
		none += ", and none is being retried"
	}
	l.read = func(ctx context.Context, op *operator.Operator, m *missing) (iter.Seq2[[]delivery.Delivery, error], error) {
		return op.Deliveries(ctx, l.Selection, pending, operator.Omitted{Unreadable: m.damaged, Other: func(id string, _ request.State) {
			m.unknown++
			fmt.Fprintf(m.w, "kyclink: %s: %s; to see all of its deliveries: kyclink callbacks show %s\n", id, none, id)
		}})
	}
	l.show = func(ctx context.Context, op *operator.Operator, d delivery.Delivery) (row, error) {
		shown, err := op.ShowDelivery(ctx, d)
		return deliveryRow{shown}, err
	}
	return l
}

// deliveryRow is a delivery in a list.
type deliveryRow struct{ operator.Delivery }

func (d deliveryRow) cells(p *terminal.Page) []terminal.Cell {
	status := terminal.Cell{Text: d.status(p)}
	if !p.Terminal() {
		return []terminal.Cell{{Text: d.EventID}, {Text: d.ApplicationID}, {Text: d.Type}, {Text: d.Host}, {Text: d.Batch}, status}
	}
	// The columns that name a callback, and its answer; the others are in "callbacks show".
	return []terminal.Cell{{Text: d.ApplicationID, Whole: true}, {Text: d.Type}, {Text: d.Host, Whole: true}, status}
}

// status describes the status of a delivery, with its attempts and its last answer.
func (d deliveryRow) status(p *terminal.Page) string {
	text := d.Status
	switch {
	case !d.DeliveredAt.IsZero():
		text += " " + age(p, d.DeliveredAt)
	case !d.GivenUpAt.IsZero():
		text += " " + age(p, d.GivenUpAt)
	}
	text += ", " + number(d.Attempts, "attempt")
	if a := d.LastAnswer; a != nil && a.Reason != "" {
		text += ", last " + age(p, a.At) + " " + reasonText(a.Reason, a.Message)
	}
	if !d.NextAttempt.IsZero() {
		text += ", next " + age(p, d.NextAttempt)
	}
	return text
}

func newCallbacksShow() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "show ID",
		Short:   "Show the callbacks of a request or an event, with the receiver's last answer",
		Example: "  kyclink callbacks show A-1001\n  kyclink callbacks show 5f0c7ee8-52a9-5f3e-8f0a-0d1f8c3b6f11 --json",
		Args:    one("an application ID, or the ID of an event"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withOperator(cmd, func(op *operator.Operator) error {
				m := &missing{w: cmd.ErrOrStderr()}
				all, err := op.DeliveriesOf(cmd.Context(), args[0], func(event string, why error) {
					m.damaged(deadletter.Unreadable{ID: event, Why: why})
				})
				if err == nil && len(all)+m.unreadable == 0 {
					err = fmt.Errorf("no callback of %s is stored; give an application ID or an event ID", args[0])
				}
				for _, d := range all {
					var shown operator.Delivery
					if shown, err = op.ShowDelivery(cmd.Context(), d); err != nil {
						return err
					}
					if asJSON {
						err = printJSON(cmd.OutOrStdout(), shown)
					} else {
						err = deliveryRow{shown}.write(newPage(cmd))
					}
					if err != nil {
						return err
					}
				}
				return cmp.Or(err, m.err())
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print each as a line of JSON")
	return cmd
}

// write prints a delivery, a line for each value.
func (d deliveryRow) write(p *terminal.Page) error {
	f := p.Fields()
	f.AddTone("event", terminal.Heading, d.EventID+" "+d.Type)
	f.Add("application ID", d.ApplicationID)
	f.Add("batch", d.Batch)
	f.Add("generation, run", fmt.Sprintf("%d, %d", d.Generation, d.Run))
	f.Add("host", d.Host)
	f.Add("status", d.status(p))
	if d.Status == string(delivery.GivenUp) {
		f.Add("what to do", "kyclink callbacks retry "+d.EventID)
	}
	f.Add("created", dated(p, d.CreatedAt))
	f.Add("delivered", dated(p, d.DeliveredAt))
	if a := d.LastAnswer; a != nil {
		answer := "none"
		if a.Status != 0 {
			answer = fmt.Sprintf("HTTP %d", a.Status)
		}
		f.Add("last answer", dated(p, a.At)+" "+answer)
		f.Add("body", a.Body)
	}
	return f.Flush()
}
