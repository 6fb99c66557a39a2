package console

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/kyclink/kyclink/internal/action"
	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/legible"
)

// actionData is one action.
type actionData struct {
	kindText
	action.Action
	Now      time.Time
	Idle     bool // it waits because no worker runs
	CanAbort bool
}

func newAction(a action.Action, now time.Time) actionData {
	return actionData{kindText: kindTexts()[a.Kind], Action: a, Now: now}
}

// Title names the action, also one whose kind only a newer version knows.
func (d actionData) Title() string {
	if d.Does == "" {
		return cmp.Or(strings.ReplaceAll(legible.Shorten(string(d.Kind)), "_", " "), "Unknown action")
	}
	return d.kindText.Title()
}

// Readable reports whether this version can decode what the action does.
func (d actionData) Readable() bool { return d.State != action.Unreadable }

// Running reports whether the action still changes entries.
func (d actionData) Running() bool { return d.State == action.Running }

// Skipped is how many entries it has left as they were.
func (d actionData) Skipped() int { return d.Counts.Skipped.Total() }

// Left is how many entries it has not looked at.
func (d actionData) Left() int { return max(0, d.Counts.Matched-d.Counts.Done-d.Skipped()) }

// Percent is how much of it is done: 100 only if all is.
func (d actionData) Percent() int {
	if d.Counts.Matched == 0 {
		return map[bool]int{true: 0, false: 100}[d.Running()]
	}
	return min(100, (d.Counts.Done+d.Skipped())*100/d.Counts.Matched)
}

// Parts are its shares, in a bar that is 1000 wide.
func (d actionData) Parts() []part {
	parts, x := []part{{State: "created", Rows: d.Counts.Done}, {State: "cancelled", Rows: d.Skipped()}}, 0.0
	for i := range parts {
		p := &parts[i]
		p.X, p.Width = x, min(barWidth-x, float64(p.Rows)/float64(max(1, d.Counts.Matched))*barWidth)
		x += p.Width
	}
	return parts
}

// Took is how long it has been running, or ran.
func (d actionData) Took() time.Duration {
	end := d.Now
	if !d.EndedAt.IsZero() {
		end = d.EndedAt
	}
	return max(0, end.Sub(d.CreatedAt))
}

// Speed is how many entries it has looked at per second since its start.
func (d actionData) Speed() float64 {
	return float64(d.Counts.Done+d.Skipped()) / max(1, d.Took().Seconds())
}

// Rest is how long the rest takes at the speed so far; 0 if that is not known.
func (d actionData) Rest() time.Duration {
	if speed := d.Speed(); speed > 0 && d.Running() {
		return time.Duration(float64(d.Left()) / speed * float64(time.Second))
	}
	return 0
}

// Conditions are the filter in words.
func (d actionData) Conditions() []condition { return conditions(d.Filter) }

func (c *Console) readAction(ctx context.Context, v *visit) (d actionData, err error) {
	id := v.r.FormValue("id")
	a, ok, err := c.actions.Get(ctx, id)
	if err != nil {
		return d, err
	}
	if !ok {
		return d, &pageError{http.StatusNotFound, "No such action", "There is no action of this ID. Actions are kept for seven days after their end."}
	}
	s, err := c.snapshots.Snapshot(ctx)
	if err != nil {
		return d, err
	}
	now, err := c.operator.Now(ctx)
	d = newAction(a, now)
	d.Idle = d.Running() && s.Workers == 0
	d.CanAbort = (d.Running() || !d.Readable()) && v.session.key.Allows(apikey.Operate)
	return d, err
}

func (c *Console) actionPage(ctx context.Context, v *visit) error {
	d, err := c.readAction(ctx, v)
	if err != nil {
		return err
	}
	return c.show(v, http.StatusOK, "action", d.Title(), d)
}

// actionProgress sends the part of the page that changes.
func (c *Console) actionProgress(ctx context.Context, v *visit) error {
	d, err := c.readAction(ctx, v)
	if err != nil {
		return err
	}
	return c.fragment(v, "action", "progress", d)
}

// abortAction ends an action before its end.
func (c *Console) abortAction(ctx context.Context, v *visit) error {
	d, err := c.readAction(ctx, v)
	if err != nil {
		return err
	}
	if err := c.record(ctx, v, "actions.abort", d.ID); err != nil {
		return err
	}
	before, err := c.actions.Abort(ctx, d.ID)
	if err != nil {
		return err
	}
	if before == action.Done {
		return &pageError{http.StatusConflict, "Already done", "The action was done before it could be aborted."}
	}
	return v.done("/action", url.Values{"id": {d.ID}}, "aborted")
}

// actionsData is the list of actions, the newest first.
type actionsData struct {
	Actions []actionData
	Next    string // the address of the next page; "" if there is none
	Older   bool   // it is not the first page
}

func (c *Console) actionsPage(ctx context.Context, v *visit) error {
	now, err := c.operator.Now(ctx)
	if err != nil {
		return err
	}
	after := v.r.FormValue("after")
	list, more, err := c.actions.List(ctx, after, pageSize)
	if err != nil {
		return err
	}
	d := actionsData{Older: after != ""}
	for _, a := range list {
		d.Actions = append(d.Actions, newAction(a, now))
	}
	if more {
		d.Next = "/actions?" + url.Values{"after": {list[len(list)-1].ID}}.Encode()
	}
	return c.show(v, http.StatusOK, "actions", "Actions", d)
}
