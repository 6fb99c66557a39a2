package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/netip"
	"net/url"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/kyclink/kyclink/internal/delivery"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/hostname"
	"github.com/kyclink/kyclink/worker"
)

func newCallbacks() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "callbacks",
		Short: "callbacks that were not delivered: look, try again, or put aside",
		Long: `A callback that is not answered with 2xx is tried again: nine attempts over some 21
hours. Redirects are not followed. It is given up after the last attempt, or at once
where its receiver answers with 410, or may not be called. All that were given up are
kept, however many they are, for as long as their requests. ID is an application id,
or the id of an event (webhook-id).`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newCallbacksList(), newCallbacksShow(), newCallbacksTest(), newCallbacksSecret(),
		newCallbacksAct(callbacksAct{
			action: "callbacks.retry", use: "retry", short: "try to deliver again", done: "enqueued to be tried again",
			long: `retry lets the workers deliver again what was given up, with the same event id and
all its attempts anew. It stays in list until a worker takes it up.`,
			example: "  kyclink callbacks retry A-1001\n  kyclink callbacks retry --host shop.example --dry-run\n  kyclink callbacks retry --all --rate 50/s",
			do: func(ctx context.Context, d desk, one delivery.Delivery) (delivery.Delivery, bool, error) {
				ok, err := worker.EnqueueCallback(ctx, d.queue, d.account, delivery.Task{
					EventID: one.EventID, ApplicationID: one.ApplicationID, Host: one.Host, Again: one.Attempts,
				})
				return one, ok, err
			},
		}),
		newCallbacksAct(callbacksAct{
			action: "callbacks.drop", use: "drop", short: "hide callbacks that were given up from list and --all", done: "hidden",
			long: `drop hides callbacks that were given up from list, and from what retry and drop choose
without an id. They stay given up: show tells of them, and retry ID still retries them.`,
			example: "  kyclink callbacks drop A-1001\n  kyclink callbacks drop --reason rejected --before 720h",
			do: func(ctx context.Context, d desk, one delivery.Delivery) (delivery.Delivery, bool, error) {
				ok, err := d.WaiveDelivery(ctx, one)
				one.Dropped = true
				return one, ok, err
			},
		}),
	)
	return cmd
}

// callbackPick says which of the callbacks that were given up are meant.
type callbackPick struct {
	ids                                []string
	host, reason, batch, since, before string
	all                                bool
	retried                            bool // those that are tried again as well
}

// wants says whether a delivery is in a state that is looked for.
func (p *callbackPick) wants(d delivery.Delivery) bool {
	return d.Status == delivery.GivenUp || p.retried && d.Status == delivery.Pending && !d.Last.Taken()
}

func (p *callbackPick) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.host, "host", "", "only those to this host, such as shop.example or shop.example:8443")
	cmd.Flags().StringVar(&p.reason, "reason", "", "only those with this reason")
	cmd.Flags().StringVar(&p.batch, "batch", "", "only those of this batch")
	const when = "only those that were given up, or last tried, %s then: a time such as 2026-12-01T00:00:00Z, or an age such as 2h"
	cmd.Flags().StringVar(&p.since, "since", "", fmt.Sprintf(when, "at or after"))
	cmd.Flags().StringVar(&p.before, "before", "", fmt.Sprintf(when, "before"))
}

func (p *callbackPick) check(cmd *cobra.Command) error {
	looking := cmd.Flags().Lookup("all") == nil // it may be a look at everything
	reasons := fault.Undelivered()
	if looking {
		reasons = append(reasons, fault.ProxyError)
	}
	if p.reason != "" && !slices.Contains(reasons, fault.Reason(p.reason)) {
		return usageError(cmd, fmt.Errorf("--reason: no callback fails for %q; use one of %v", p.reason, reasons))
	}
	if looking {
		return nil
	}
	switch given := p.host+p.reason+p.batch+p.since+p.before != "" || len(p.ids) > 0; {
	case p.all && len(p.ids) > 0:
		return usageError(cmd, errors.New("--all and ids contradict each other; give one of them"))
	case !given && !p.all:
		return usageError(cmd, errors.New("say which callbacks: ids, --host, --reason, --batch, --since, --before, or --all"))
	}
	return nil
}

// chosen are the deliveries that are meant, a page at a time, as they were when they
// were read. What is given up later is not among them, unless it is named, so that an
// act on all of them ends. other is told of each id that has none.
func (p *callbackPick) chosen(ctx context.Context, e *engine, d desk, other func(id string)) (iter.Seq2[[]delivery.Delivery, error], error) {
	within, err := readWindow(ctx, e, d, p.batch, p.since, p.before)
	if err != nil {
		return nil, err
	}
	if len(p.ids) > 0 {
		return p.within(within, p.named(ctx, d, other)), nil
	}
	pages := d.Undelivered(ctx, within.since, within.before)
	if p.retried {
		pages = both(pages, d.Retried(ctx))
	}
	return p.within(within, pages), nil
}

// both gives the pages of one after those of the other.
func both[T any](first, second iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for _, pages := range []iter.Seq2[T, error]{first, second} {
			for page, err := range pages {
				if !yield(page, err) || err != nil {
					return
				}
			}
		}
	}
}

// within leaves out what is not meant. A delivery that is tried again counts from its
// last attempt.
func (p *callbackPick) within(w window, pages iter.Seq2[[]delivery.Delivery, error]) iter.Seq2[[]delivery.Delivery, error] {
	meant := func(one delivery.Delivery) bool {
		at := one.GivenUpAt
		if at.IsZero() {
			at = one.Last.At
		}
		return (w.batch < 0 || one.Batch == w.batch) && (p.reason == "" || one.Last.Reason == p.reason) && toHost(one, p.host) &&
			!at.Before(w.since.Truncate(time.Millisecond)) && (len(p.ids) > 0 && p.before == "" || at.Before(w.before))
	}
	return func(yield func([]delivery.Delivery, error) bool) {
		for page, err := range pages {
			if !yield(slices.DeleteFunc(page, func(one delivery.Delivery) bool { return !meant(one) }), err) {
				return
			}
		}
	}
}

// toHost compares hosts as their canonical names, and ports where one is given.
func toHost(d delivery.Delivery, host string) bool {
	if host == "" {
		return true
	}
	name, port := splitHost(host)
	to, itsPort := splitHost(d.Host)
	return name == to && (port == "" || port == itsPort)
}

func splitHost(text string) (name, port string) {
	u := &url.URL{Host: text}
	name, port = u.Hostname(), u.Port()
	if _, err := netip.ParseAddr(text); err == nil { // IPv6 without brackets
		name, port = text, ""
	}
	if canonical, err := hostname.Canonical(name); err == nil {
		name = canonical
	}
	return name, port
}

// named reads the deliveries whose ids were given, or those of requests, each once.
func (p *callbackPick) named(ctx context.Context, d desk, other func(id string)) iter.Seq2[[]delivery.Delivery, error] {
	return func(yield func([]delivery.Delivery, error) bool) {
		had := map[string]bool{}
		for _, id := range distinct(p.ids) {
			all, err := deliveriesOf(ctx, d, id)
			all = slices.DeleteFunc(all, func(one delivery.Delivery) bool { return !p.wants(one) })
			if err == nil && len(all) == 0 {
				other(id)
			}
			all = slices.DeleteFunc(all, func(one delivery.Delivery) bool { return had[one.EventID] })
			for _, one := range all {
				had[one.EventID] = true
			}
			if !yield(all, err) || err != nil {
				return
			}
		}
	}
}

// deliveriesOf reads the deliveries of a request, or the one of an event.
func deliveriesOf(ctx context.Context, d desk, id string) ([]delivery.Delivery, error) {
	all, err := d.Deliveries(ctx, id)
	if err != nil || len(all) > 0 {
		return all, err
	}
	return d.ReadDeliveries(ctx, []string{id})
}

// deliveryStory is a delivery as it is printed. What a URL has after its host is not.
type deliveryStory struct {
	EventID       string      `json:"event_id"`
	Type          string      `json:"type"`
	ApplicationID string      `json:"application_id"`
	Generation    int         `json:"generation"`
	Run           int         `json:"run"`
	Batch         string      `json:"batch,omitempty"`
	Host          string      `json:"host"`
	Status        string      `json:"status"`
	CreatedAt     time.Time   `json:"created_at"`
	DeliveredAt   time.Time   `json:"delivered_at,omitzero"`
	GivenUpAt     time.Time   `json:"given_up_at,omitzero"`
	Dropped       bool        `json:"dropped,omitempty"`
	Attempts      int         `json:"attempts"`
	NextAttempt   time.Time   `json:"next_attempt,omitzero"`
	LastAnswer    *lastAnswer `json:"last_answer,omitempty"`
}

type lastAnswer struct {
	At      time.Time `json:"at"`
	Status  int       `json:"status,omitempty"` // of HTTP
	Reason  string    `json:"reason,omitempty"`
	Message string    `json:"message,omitempty"`
	Body    string    `json:"body,omitempty"` // its beginning, redacted
}

func tellDelivery(d delivery.Delivery, batch string) deliveryStory {
	s := deliveryStory{
		EventID: d.EventID, Type: d.Type, ApplicationID: d.ApplicationID, Generation: d.Generation, Run: d.Run, Batch: batch,
		Host: d.Host, Status: string(d.Status), CreatedAt: d.CreatedAt, DeliveredAt: d.DeliveredAt, GivenUpAt: d.GivenUpAt,
		Dropped: d.Dropped, Attempts: d.Attempts, NextAttempt: d.NextAt,
	}
	if !d.Last.At.IsZero() {
		s.LastAnswer = &lastAnswer{d.Last.At, d.Last.Code, d.Last.Reason, d.Last.Message, d.Last.Body}
	}
	return s
}

// String is one line of it, without what it is of.
func (s deliveryStory) String() string {
	text := s.Status
	switch {
	case !s.DeliveredAt.IsZero():
		text += " " + moment(s.DeliveredAt)
	case !s.GivenUpAt.IsZero():
		text += " " + moment(s.GivenUpAt)
	}
	text += ", " + number(s.Attempts, "attempt")
	if a := s.LastAnswer; a != nil && a.Reason != "" {
		text += ", last " + moment(a.At) + " " + why(a.Reason, a.Message)
	}
	if !s.NextAttempt.IsZero() {
		text += ", next " + moment(s.NextAttempt)
	}
	return text
}

func (d desk) tellDeliveries(ctx context.Context, all []delivery.Delivery) ([]deliveryStory, error) {
	stories := make([]deliveryStory, len(all))
	for i, one := range all {
		batch, err := d.BatchName(ctx, one.Batch)
		if err != nil {
			return nil, err
		}
		stories[i] = tellDelivery(one, batch)
	}
	return stories, nil
}

func newCallbacksShow() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "show ID",
		Short:   "tell of all deliveries of a request, or of one event's, with what the receiver said",
		Example: "  kyclink callbacks show A-1001\n  kyclink callbacks show 5f0c7ee8-52a9-5f3e-8f0a-0d1f8c3b6f11 --json",
		Args:    one("an application id, or the id of an event"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withShared(cmd, func(e *engine) error {
				d, ctx := e.desk(), cmd.Context()
				all, err := deliveriesOf(ctx, d, args[0])
				if err == nil && len(all) == 0 {
					err = fmt.Errorf("%s: no callback is known of it in account %q", args[0], d.account)
				}
				if err != nil {
					return err
				}
				stories, err := d.tellDeliveries(ctx, all)
				if err != nil {
					return err
				}
				for _, s := range stories {
					if asJSON {
						err = printJSON(cmd.OutOrStdout(), s)
					} else {
						err = s.print(cmd.OutOrStdout())
					}
					if err != nil {
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

func (s deliveryStory) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(t, "%s\t%s\n", name, value)
		}
	}
	row("event", s.EventID+" "+s.Type)
	row("application id", s.ApplicationID)
	row("batch", s.Batch)
	row("generation, run", fmt.Sprintf("%d, %d", s.Generation, s.Run))
	row("host", s.Host)
	row("status", s.String())
	if s.Status == string(delivery.GivenUp) {
		row("what to do", "kyclink callbacks retry "+s.EventID)
	}
	row("created", moment(s.CreatedAt))
	row("delivered", moment(s.DeliveredAt))
	if a := s.LastAnswer; a != nil {
		answer := "none"
		if a.Status != 0 {
			answer = fmt.Sprintf("HTTP %d", a.Status)
		}
		row("last answer", moment(a.At)+" "+answer)
		row("it said", a.Body)
	}
	return t.Flush()
}
