package console

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kyclink/kyclink/internal/action"
	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/legible"
	"github.com/kyclink/kyclink/internal/operator"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

// kindText is a kind of action in words.
type kindText struct {
	listText
	Does  string // what it does
	Drops bool
	Calls bool // FaceKi is called for each entry
}

// listText is a list whose entries actions change, in words.
type listText struct {
	Address     string // of its page
	Which       string // the entries are, such as "failed"
	Noun, Nouns string // such as "request" and "requests"
}

func failedList() listText   { return listText{"/failed", "failed", "request", "requests"} }
func heldList() listText     { return listText{"/held", "held", "request", "requests"} }
func callbackList() listText { return listText{"/callbacks", "given-up", "callback", "callbacks"} }

// One is an entry, and More are several.
func (t listText) One() string  { return t.Which + " " + t.Noun }
func (t listText) More() string { return t.Which + " " + t.Nouns }

// Verb is what it does with an entry.
func (t kindText) Verb() string {
	if t.Drops {
		return "Drop"
	}
	return "Retry"
}

// Title names the action.
func (t kindText) Title() string { return t.Verb() + " " + t.More() }

func kindTexts() map[action.Kind]kindText {
	failed, held, callbacks := failedList(), heldList(), callbackList()
	const inBulk = " The calls are made in the bulk lane, so that new signups do not wait for them."
	return map[action.Kind]kindText{
		action.RetryFailed: {listText: failed, Calls: true, Does: "Each request starts a new run: FaceKi is called again, and the run ends with a new event. " +
			"The history stays, and the request's not_after is removed." + inBulk},
		action.DropFailed: {listText: failed, Drops: true, Does: "Each request leaves the list of failed requests. Its record stays as it is, and it can still be retried by its ID."},
		action.RetryHeld: {listText: held, Calls: true, Does: "Each request is called again in the same run. If the uncertain call has created a link, " +
			"that is a second one, which FaceKi bills." + inBulk},
		action.DropHeld:        {listText: held, Drops: true, Does: "Each request is cancelled, with the event link.cancelled. That cannot be undone. A link that still arrives is kept in its record."},
		action.RetryDeliveries: {listText: callbacks, Does: "Each event is delivered again, with the same event ID and nine new attempts."},
		action.DropDeliveries:  {listText: callbacks, Drops: true, Does: "Each callback leaves the list. It stays given up, and can still be retried by its ID."},
	}
}

// bulkData is a list with the actions that change its entries.
type bulkData struct {
	listText
	Retry, Drop action.Kind
	Tally       tally // of all groups that match the other filters
}

// planData is what an action would change.
type planData struct {
	kindText
	action.Request
	Plan action.Plan
	// Was is how many entries matched in the dry run before, if the set has changed since.
	Was     int
	Changed bool
	Tally   tally         // by reason or receiver; empty if the entries were chosen by ID
	Takes   time.Duration // the action at its rate
	Calling time.Duration // the calls at the account's rate limit; 0 if there are none
	Limit   string        // the account's rate limit
	Idle    bool          // no worker runs
	Now     time.Time
}

// Since, Before and Back are for the form and the way back to the list.
func (d planData) Since() string  { return filterTime(d.Filter.Since) }
func (d planData) Before() string { return filterTime(d.Filter.Before) }
func (d planData) Back() string {
	f := d.Filter
	return address(d.Address, map[string]string{"reason": f.Reason, "batch": f.Batch, "lane": string(f.Lane), "host": f.Host, "since": d.Since()})
}

// Conditions are the filter in words.
func (d planData) Conditions() []condition { return conditions(d.Filter) }

// Meaning explains the reason of a group.
func (d planData) Meaning(g group) meaning { return requestMeaning(g.Name) }

// ByHost reports whether the groups are receivers.
func (d planData) ByHost() bool { return d.Address == callbackList().Address }

// condition is a part of a filter.
type condition struct {
	Name, Value string
	At          time.Time // instead of a value
}

func conditions(f action.Filter) (all []condition) {
	for _, c := range []condition{
		{"reason", strings.ReplaceAll(f.Reason, "_", " "), time.Time{}}, {"batch", f.Batch, time.Time{}}, {"lane", string(f.Lane), time.Time{}},
		{"receiver", f.Host, time.Time{}}, {"since", "", f.Since}, {"until", "", f.Before},
	} {
		if c.Value != "" || !c.At.IsZero() {
			all = append(all, c)
		}
	}
	return all
}

const (
	planTimeout = 20 * time.Second // of a dry run
	planTally   = 3 * time.Second  // of its groups, which do not need to be complete
)

// planAction shows what an action would change.
func (c *Console) planAction(ctx context.Context, v *visit) error {
	d, err := c.plan(ctx, v)
	if err != nil {
		return err
	}
	return c.show(v, http.StatusOK, "plan", d.Title(), d)
}

// plan makes the dry run of the action that a form describes.
func (c *Console) plan(ctx context.Context, v *visit) (d planData, err error) {
	s, err := c.snapshots.Snapshot(ctx)
	if err != nil {
		return d, err
	}
	if d.Now, err = c.operator.Now(ctx); err != nil {
		return d, err
	}
	if d.Request, err = actionForm(v.r.PostForm, d.Now); err != nil {
		return d, err
	}
	if err := c.checkBatch(ctx, d.Request); err != nil {
		return d, err
	}
	_ = http.NewResponseController(v.w).SetReadDeadline(time.Time{}) // test recorders have no deadline
	ctx, cancel := context.WithTimeout(v.r.Context(), planTimeout)   // which ends if the browser leaves
	defer cancel()
	group, planning := errgroup.WithContext(ctx)
	group.Go(func() error {
		var err error
		d.Plan, err = c.actions.Plan(planning, d.Request)
		return err
	})
	group.Go(func() error {
		var err error
		d.Tally, err = c.tallyOf(planning, d.Request)
		return err
	})
	err = group.Wait()
	if wrong, ok := errors.AsType[*action.InvalidError](err); ok {
		return d, notPossible(wrong.Error())
	}
	if err != nil && ctx.Err() != nil {
		return d, &pageError{
			http.StatusRequestTimeout, "Too many to count", "So many entries match that they could not be counted within " + duration(planTimeout) + ". Nothing was changed. Choose fewer, for example by batch or time.",
		}
	}
	d.kindText, d.Idle, d.Limit = kindTexts()[d.Kind], s.Workers == 0, s.Rate.Limit
	d.Takes = takes(d.Plan.Count, d.Rate)
	if d.Calls {
		d.Calling = takes(d.Plan.Count, d.Limit)
	}
	return d, err
}

// takes returns how long a number of entries takes at a rate; 0 if the rate cannot be read.
func takes(n int, rate string) time.Duration {
	if speed := perSecond(rate); speed > 0 {
		return time.Duration(float64(n) / speed * float64(time.Second))
	}
	return 0
}

func notPossible(why string) error {
	return &pageError{http.StatusUnprocessableEntity, "Not possible", "The action was not started: " + why + "."}
}

// actionForm reads the form of an action. Entries that are added to the list after now are
// not part of it, so that the dry run stays valid while further requests fail.
func actionForm(form url.Values, now time.Time) (r action.Request, err error) {
	value := func(name string) string { return strings.TrimSpace(form.Get(name)) }
	r = action.Request{Kind: action.Kind(value("kind")), Rate: legible.Shorten(value("rate")), IDs: form["ids"]}
	if !slices.Contains(action.Kinds(), r.Kind) {
		return r, notPossible("there is no such action")
	}
	if r.Rate == "" {
		r.Rate = action.DefaultRate
	}
	if value("selected") != "" && len(r.IDs) == 0 {
		return r, &pageError{http.StatusUnprocessableEntity, "Nothing is selected", "Go back, and select at least one entry of the list. Nothing was changed."}
	}
	f := &r.Filter
	*f = action.Filter{Reason: value("reason"), Batch: value("batch"), Lane: request.Lane(value("lane")), Host: value("host")}
	for name, to := range map[string]*time.Time{"since": &f.Since, "before": &f.Before} {
		if text := value(name); text != "" {
			if *to, err = operator.ParseTime(legible.Shorten(text), now); err != nil {
				return r, notPossible(err.Error())
			}
		}
	}
	if f.Before.IsZero() || f.Before.After(now) {
		f.Before = now.UTC().Truncate(time.Millisecond)
	}
	return r, nil
}

// checkBatch returns an error if the filter names a batch that does not exist, or whose
// requests cannot be retried.
func (c *Console) checkBatch(ctx context.Context, r action.Request) error {
	if r.Filter.Batch == "" {
		return nil
	}
	b, err := c.batchOf(ctx, r.Filter.Batch)
	if err == nil && b.Status == batch.Cancelled && kindTexts()[r.Kind].Calls {
		err = cancelledBatch(&tasks.CancelledError{Batch: b.Batch})
	}
	return err
}

// tallyOf groups what an action would change, unless its entries were chosen by ID.
func (c *Console) tallyOf(ctx context.Context, r action.Request) (tally, error) {
	f := r.Filter
	s := operator.Selection{Reason: f.Reason, Batch: f.Batch, Host: f.Host, Since: filterTime(f.Since), Before: filterTime(f.Before)}
	var count counter
	switch r.Kind {
	case action.RetryFailed, action.DropFailed:
		count = c.countRequests(request.Failed, s, f.Lane)
	case action.RetryHeld, action.DropHeld:
		count = c.countRequests(request.Held, s, f.Lane)
	case action.RetryDeliveries, action.DropDeliveries:
		count = c.countDeliveries(s, false)
	}
	if len(r.IDs) > 0 || count == nil {
		return tally{}, nil
	}
	return count.within(ctx, planTally)
}

// startAction starts the action of a dry run, if it would still change the same. The second
// click of a double click leads to the action that the first one has started.
func (c *Console) startAction(ctx context.Context, v *visit) error {
	kind, token := action.Kind(v.r.PostFormValue("kind")), v.r.PostFormValue("token")
	if kindTexts()[kind].Drops {
		if err := v.confirmed(c.Stores.Keys.Account); err != nil {
			return err
		}
	}
	if started, ok, err := c.actions.Started(ctx, kind, token); err != nil || ok {
		return v.toAction(started, err)
	}
	d, err := c.plan(ctx, v)
	if err != nil {
		return err
	}
	if !d.Plan.Matches(token) {
		if started, ok, err := c.actions.Started(v.r.Context(), kind, token); err != nil || ok { // it has changed them meanwhile
			return v.toAction(started, err)
		}
		d.Changed = true
		d.Was, _ = strconv.Atoi(v.r.PostFormValue("count")) // it is only shown
		return c.show(v, http.StatusConflict, "plan", d.Title(), d)
	}
	ctx, cancel := c.long(v, c.timeout)
	defer cancel()
	for _, target := range d.Targets() {
		if err := c.record(ctx, v, d.Kind.Audited(), target); err != nil {
			return err
		}
	}
	started, err := c.actions.Start(ctx, d.Plan, token, v.session.key.Name)
	if busy, ok := errors.AsType[*action.BusyError](err); ok {
		return &pageError{http.StatusConflict, "Too many actions", "The action was not started: " + busy.Error() + "."}
	}
	if same, ok := errors.AsType[*action.SameError](err); ok {
		return v.done("/action", url.Values{"id": {same.ID}}, "same_action")
	}
	return v.toAction(started, err)
}

// toAction redirects to the page of an action, unless there is an error.
func (v *visit) toAction(a action.Action, err error) error {
	if err != nil {
		return err
	}
	return v.redirect("/action?id=" + url.QueryEscape(a.ID))
}
