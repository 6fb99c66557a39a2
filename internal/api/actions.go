package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/google/uuid"

	"github.com/kyclink/kyclink/internal/action"
	"github.com/kyclink/kyclink/internal/legible"
)

// The default and the maximum number of actions on a page.
const (
	defaultActions = 20
	maxActions     = 100
)

// actionRequest is the body of a request for an action: with DryRun what it would change,
// with the token of that answer its start.
type actionRequest struct {
	action.Request
	DryRun bool   `json:"dry_run"`
	Token  string `json:"token"`
}

// actionPage is one page of the list of actions, the newest first.
type actionPage struct {
	Actions []action.Action `json:"actions"`
	Next    string          `json:"next,omitempty"` // the cursor of the next page
}

// postAction counts what an action would change, or starts it if that is still the same.
func (a *API) postAction(c *call) error {
	asked, err := c.actionRequest()
	if err != nil {
		return err
	}
	c.unchanged = true // until the audit trail and the action are written
	ctx, stop := a.longCall(c)
	defer stop(nil)
	if ok, err := a.showStarted(ctx, c, asked); err != nil || ok {
		return err
	}
	planning, cancel := context.WithTimeout(ctx, actionTimeout)
	defer cancel()
	plan, err := a.actions.Plan(planning, asked.Request)
	if wrong, ok := errors.AsType[*action.InvalidError](err); ok {
		return malformed(wrong.Key, wrong.Message)
	}
	if err != nil && planning.Err() != nil && ctx.Err() == nil { // too many match
		return tooManyMatch()
	}
	if err != nil {
		return err
	}
	if asked.DryRun {
		return c.json(http.StatusOK, plan)
	}
	if !plan.Matches(asked.Token) {
		if ok, err := a.showStarted(ctx, c, asked); err != nil || ok { // it has changed them meanwhile
			return err
		}
		return setChanged(plan.Count)
	}
	c.unchanged = false
	for _, target := range asked.Targets() {
		if err := a.record(ctx, c, asked.Kind.Audited(), target); err != nil {
			return err
		}
	}
	starting, cancelStart := context.WithTimeout(ctx, a.timeout)
	defer cancelStart()
	started, err := a.actions.Start(starting, plan, asked.Token, c.key.Name)
	if err != nil {
		return notStarted(err)
	}
	return c.started(http.StatusCreated, started)
}

// showStarted responds with the action that the token has started before; ok is false if there
// is none.
func (a *API) showStarted(ctx context.Context, c *call, asked actionRequest) (ok bool, err error) {
	if asked.DryRun {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	started, ok, err := a.actions.Started(ctx, asked.Kind, asked.Token)
	if err != nil || !ok {
		return false, err
	}
	return true, c.started(http.StatusOK, started)
}

// started responds with an action and its path.
func (c *call) started(status int, started action.Action) error {
	c.Header().Set("Location", "/v1/actions/"+started.ID)
	return c.json(status, started)
}

// actionRequest reads the body of a request for an action.
func (c *call) actionRequest() (r actionRequest, err error) {
	if err := c.onlyQuery(); err != nil {
		return r, err
	}
	text, err := c.body()
	if err != nil {
		return r, err
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		return r, malformed("", "the body is not the JSON of an action: "+legible.Shorten(err.Error()))
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return r, malformed("", "the body has more than one JSON value")
	}
	switch {
	case r.DryRun && r.Token != "":
		return r, malformed("token", "is the answer to a dry run; omit it, or omit dry_run")
	case !r.DryRun && r.Token == "":
		return r, malformed("token", "is missing: send the same with dry_run: true first, and then with the token of the answer")
	}
	return r, nil
}

func tooManyMatch() *problem {
	p := tooLong(actionTimeout)
	p.Detail = fmt.Sprintf("the entries that match could not be counted within %v; restrict the filter, for example with since and before", actionTimeout)
	return p
}

func setChanged(count int) *problem {
	p := newProblem(http.StatusConflict, setChangedReason, "Set changed",
		fmt.Sprintf("other entries match than in the dry run, or they have changed: %d match now; make another dry run, if need be with filter.before", count))
	p.Count = &count
	return p
}

// notStarted is the response to an action that was not started because of others.
func notStarted(err error) error {
	if busy, ok := errors.AsType[*action.BusyError](err); ok {
		return newProblem(http.StatusConflict, busyReason, "Too many actions", busy.Error())
	}
	if same, ok := errors.AsType[*action.SameError](err); ok {
		p := newProblem(http.StatusConflict, runningReason, "Already running", same.Error())
		p.Action = same.ID
		return p
	}
	return err
}

// listActions returns one page of actions. The cursor is the ID of the last one on the page.
func (a *API) listActions(c *call) error {
	if err := c.noBody("limit", "cursor"); err != nil {
		return err
	}
	limit, query := defaultActions, c.r.URL.Query()
	if text := query.Get("limit"); text != "" {
		var err error
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > maxActions {
			return malformed("limit", fmt.Sprintf("must be a whole number from 1 to %d", maxActions))
		}
	}
	if after := query.Get("cursor"); after != "" && uuid.Validate(after) != nil {
		return wrongCursor()
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), a.timeout)
	defer cancel()
	list, more, err := a.actions.List(ctx, query.Get("cursor"), limit)
	if err != nil {
		return err
	}
	page := actionPage{Actions: list}
	if more {
		page.Next = list[len(list)-1].ID
	}
	return c.json(http.StatusOK, page)
}

func (a *API) getAction(c *call) error {
	if err := c.noBody(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), a.timeout)
	defer cancel()
	return a.showAction(ctx, c)
}

// showAction responds with the action that the path names.
func (a *API) showAction(ctx context.Context, c *call) error {
	id := c.r.PathValue("id")
	found, ok, err := a.actions.Get(ctx, id)
	if err != nil {
		return err
	}
	if !ok {
		return noSuchAction(id)
	}
	return c.json(http.StatusOK, found)
}

func noSuchAction(id string) *problem {
	return notFound(fmt.Sprintf("there is no action %q; actions are kept for seven days after their end", legible.Shorten(id)))
}

// abortAction ends a running action. To abort it again changes nothing.
func (a *API) abortAction(c *call) error {
	if err := c.noBody(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), a.timeout)
	defer cancel()
	id := c.r.PathValue("id")
	if _, ok, err := a.actions.Get(ctx, id); err != nil || !ok {
		if err != nil {
			return err
		}
		return noSuchAction(id)
	}
	if err := a.record(ctx, c, "actions.abort", id); err != nil {
		return err
	}
	before, err := a.actions.Abort(ctx, id)
	if err != nil {
		return err
	}
	if before == action.Done {
		return newProblem(http.StatusConflict, endedReason, "Already ended", fmt.Sprintf("action %s is done and cannot be aborted", id))
	}
	return a.showAction(ctx, c)
}
