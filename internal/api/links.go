package api

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

// postLink accepts one request, and may wait for its link.
func (a *API) postLink(c *call) error {
	if err := c.onlyQuery(); err != nil {
		return err
	}
	body, err := c.body()
	if err != nil {
		return err
	}
	wait := preferredWait(c.r.Header)
	link, w, err := a.enqueue(c, body, wait > 0)
	if err != nil {
		return err
	}
	defer w.done()
	before := link.Status
	if wait > 0 {
		waited(c.Header(), wait)
		if !settled(before) {
			if link, err = a.await(c, w, link, wait); err != nil {
				return err
			}
		}
	}
	c.Header().Set("Location", "/v1/links/"+url.PathEscape(link.ApplicationID))
	switch {
	case !link.Status.Ended():
		return c.json(http.StatusAccepted, a.unended(c.r.Context(), link))
	case link.Status == tasks.Created && !before.Ended():
		return c.json(http.StatusCreated, link)
	}
	return c.json(http.StatusOK, link)
}

// accepters is how many requests are accepted at a time: of thousands that come at
// once the first are not to wait for the last, as they would if all took each of
// several steps together.
const accepters = 64

// enqueue accepts the request in body when its turn has come, and gives who waits
// for it where somebody does. Its time is over when ctx's is, even where what it
// waits for heeds no context, as commands that are sent together do not: then it
// may have been accepted, and keeps its turn until that has ended.
func (a *API) enqueue(c *call, body []byte, waits bool) (tasks.Link, *waiter, error) {
	ctx, cancel := context.WithTimeout(c.r.Context(), a.within)
	defer cancel()
	select {
	case a.accepting <- struct{}{}:
	case <-ctx.Done():
		return tasks.Link{}, nil, ctx.Err()
	}
	passedOn := false
	defer func() {
		if !passedOn {
			<-a.accepting
		}
	}()
	req, err := tasks.ParseRequest(body) // in turn: see accepters
	if err != nil {
		return tasks.Link{}, nil, unacceptable(err)
	}
	var w *waiter
	if waits { // before it is accepted, so that its event is not missed
		w = a.stream.wait(req.ApplicationID)
	}
	change := Change{Key: c.key, Action: "links.request", Target: req.ApplicationID, RequestID: c.id}
	accepted := make(chan tasks.Link, 1)
	passedOn = true
	if err := heeding(ctx, func() error {
		defer func() { <-a.accepting }()
		err := a.Audit.Append(ctx, change)
		if err == nil && ctx.Err() == nil {
			var link tasks.Link
			link, err = a.client(c).Enqueue(ctx, req)
			accepted <- link
		}
		return cmp.Or(err, ctx.Err())
	}); err != nil {
		w.done()
		return tasks.Link{}, nil, err
	}
	return <-accepted, w, nil
}

// client acts for the key of a request.
func (a *API) client(c *call) *tasks.Client { return a.Client.As(c.key.maker()) }

// unacceptable tells a body that cannot be read from one that makes no sense.
func unacceptable(err error) error {
	if e, ok := errors.AsType[*tasks.InvalidError](err); ok && len(e.Problems) > 0 && e.Problems[0].Key == "" {
		return unreadable("", "the body "+e.Problems[0].Message)
	}
	return err
}

// settled says that waiting would bring nothing.
func settled(s tasks.Status) bool { return s.Ended() || s == tasks.Held }

// await gives the link as soon as its request has ended or is held, and else what
// is known when the time is over, or nobody may wait any longer. While Redis is away it
// waits on; it fails only where the key is revoked.
func (a *API) await(c *call, w *waiter, link tasks.Link, wait time.Duration) (tasks.Link, error) {
	ctx := c.r.Context()
	over := time.NewTimer(wait)
	defer over.Stop()
	recheck := time.NewTicker(recheckPause)
	defer recheck.Stop()
	for last := false; !last; {
		select {
		case <-w.woken:
		case <-recheck.C:
			if err := a.admitted(ctx, c); err != nil {
				return link, err
			}
			continue
		case <-over.C:
			last = true
		case <-a.draining:
			last = true
		case <-ctx.Done():
			return link, nil
		}
		looking, cancel := context.WithTimeout(ctx, time.Second)
		now, err := look(looking, a.client(c), link.ApplicationID, link.Generation)
		cancel()
		if err == nil {
			link = now
		} else if !last {
			again := time.AfterFunc(streamPause, w.wake)
			defer again.Stop()
		}
		if settled(link.Status) {
			return link, nil
		}
	}
	return link, nil
}

// look reads one generation of a request, the latest where it is 0.
func look(ctx context.Context, client *tasks.Client, applicationID string, generation int) (tasks.Link, error) {
	answers, err := client.Preview(ctx, []tasks.Request{{ApplicationID: applicationID, Generation: generation}})
	if err != nil {
		return tasks.Link{}, err
	}
	switch gap, isGap := errors.AsType[*tasks.GapError](answers[0].Err); {
	case isGap && gap.Latest > 0:
		return tasks.Link{}, notFound(fmt.Sprintf("the latest generation of %s is %d", applicationID, gap.Latest))
	case isGap:
		return tasks.Link{}, tasks.ErrNotFound
	}
	return answers[0].Link, answers[0].Err
}

// subject reads which generation of which request is meant.
func (c *call) subject() (applicationID string, generation int, err error) {
	if err := c.noBody("generation"); err != nil {
		return "", 0, err
	}
	applicationID = c.r.PathValue("application_id")
	r, err := tasks.ParseText(func(key string) string {
		switch key {
		case "application_id":
			return applicationID
		case "generation":
			return c.r.URL.Query().Get(key)
		}
		return ""
	})
	if e, ok := errors.AsType[*tasks.InvalidError](err); ok {
		return "", 0, invalid(http.StatusBadRequest, e.Problems)
	}
	return applicationID, r.Generation, err
}

// getLink gives what is known of a request.
func (a *API) getLink(c *call) error {
	id, generation, err := c.subject()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), a.within)
	defer cancel()
	link, err := look(ctx, a.Client, id, generation)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(encoded(link))
	tag := `"` + base64.RawURLEncoding.EncodeToString(sum[:18]) + `"`
	c.Header().Set("ETag", tag)
	c.Header().Set("Cache-Control", "private, no-cache")
	if matches(c.r.Header.Values("If-None-Match"), tag) {
		c.WriteHeader(http.StatusNotModified)
		return nil
	}
	return c.json(http.StatusOK, link)
}

// matches compares as RFC 9110 wants for If-None-Match. Our tags hold no comma.
func matches(headers []string, tag string) bool {
	for _, header := range headers {
		for one := range strings.SplitSeq(header, ",") {
			if one = strings.TrimSpace(one); one == "*" || strings.TrimPrefix(one, "W/") == tag {
				return true
			}
		}
	}
	return false
}

// cancelTries is how often a cancel looks again, because the request went on in
// between.
const cancelTries = 5

// deleteLink cancels a request that was not called. One that is being called ends
// with its answer.
func (a *API) deleteLink(c *call) error {
	id, generation, err := c.subject()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), a.within)
	defer cancel()
	link, err := look(ctx, a.Client, id, generation)
	if err != nil {
		return err
	}
	if err := a.enter(ctx, c, "links.cancel", id); err != nil {
		return err
	}
	for range cancelTries {
		r, ok, err := a.Ledger.Get(ctx, id)
		switch {
		case err != nil:
			return err
		case !ok:
			return tasks.ErrNotFound
		case generation != 0 && r.Generation != generation:
			return ended(link) // there is a later one
		}
		state, err := a.Ledger.Cancel(ctx, r)
		if err != nil {
			return err
		}
		if state == "" {
			continue
		}
		return a.cancelled(ctx, c, r, state)
	}
	return unavailable(errors.New("the request went on again and again"))
}

func (a *API) cancelled(ctx context.Context, c *call, r request.Record, state request.State) error {
	link, err := look(ctx, a.Client, r.ApplicationID, r.Generation)
	if err != nil {
		return err
	}
	if !c.key.Allows(Read) {
		link.LinkID, link.URL, link.Metadata = "", "", nil
	}
	switch state { //nolint:exhaustive // the others are not left by a cancel
	case request.Calling:
		return c.json(http.StatusAccepted, link)
	case request.Created, request.Failed:
		return ended(link)
	}
	return c.json(http.StatusOK, link)
}

// flag reads a parameter that is true or false.
func flag(key, value string) (bool, error) {
	if value == "" {
		return false, nil
	}
	if value != "true" && value != "false" {
		return false, unreadable(key, "must be true or false")
	}
	return strconv.ParseBool(value)
}
