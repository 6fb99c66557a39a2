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

	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/audit"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

// postLink accepts a request, and waits for its link if the client prefers that.
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
		setPreferenceApplied(c.Header(), wait)
		if !settled(before) {
			if link, err = a.await(c, w, link, wait); err != nil {
				return err
			}
		}
	}
	c.Header().Set("Location", "/v1/links/"+url.PathEscape(link.ApplicationID))
	switch {
	case !link.Status.Ended():
		return c.json(http.StatusAccepted, a.unended(c, link))
	case link.Status == tasks.Created && !before.Ended():
		return c.json(http.StatusCreated, link)
	}
	return c.json(http.StatusOK, link)
}

// maxAccepting is the number of requests that are accepted at a time. If thousands arrive
// at once, the first ones are answered before the last ones begin.
const maxAccepting = 64

// enqueue accepts the request in body, and returns a waiter for it if waits is set. After
// the timeout it returns, even if a Redis command that ignores contexts is still running;
// the request may be accepted then, and keeps its place in the semaphore until that
// command has ended.
func (a *API) enqueue(c *call, body []byte, waits bool) (tasks.Link, *waiter, error) {
	ctx, cancel := context.WithTimeout(c.r.Context(), a.timeout)
	defer cancel()
	select {
	case a.accepting <- struct{}{}:
	case <-ctx.Done():
		return tasks.Link{}, nil, ctx.Err()
	}
	handedOver := false
	defer func() {
		if !handedOver {
			<-a.accepting
		}
	}()
	req, err := tasks.ParseRequest(body) // within the semaphore, because parsing costs CPU
	if err != nil {
		return tasks.Link{}, nil, parseError(err)
	}
	var w *waiter
	if waits { // before accepting, so that no event is missed
		w = a.stream.subscribe(req.ApplicationID)
	}
	change := audit.Change{Key: c.key, Action: "links.request", Target: req.ApplicationID, RequestID: c.id}
	accepted := make(chan tasks.Link, 1)
	handedOver = true
	if err := runWithContext(ctx, func() error {
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

// client returns a client that acts for the key of a call.
func (a *API) client(c *call) *tasks.Client { return a.Client.As(caller(c.key)) }

// parseError distinguishes a malformed body (400) from an invalid request (422).
func parseError(err error) error {
	if e, ok := errors.AsType[*tasks.InvalidError](err); ok && len(e.Problems) > 0 && e.Problems[0].Key == "" {
		return malformed("", "the body "+e.Problems[0].Message)
	}
	return err
}

// settled reports whether a request has ended or is held, so that it is useless to wait.
func settled(s tasks.Status) bool { return s.Ended() || s == tasks.Held }

// await returns the link when its request has ended or is held, when the wait is over, or
// when the server drains. It keeps waiting while Redis is away. It fails only if the key
// is revoked.
func (a *API) await(c *call, w *waiter, link tasks.Link, wait time.Duration) (tasks.Link, error) {
	ctx := c.r.Context()
	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	recheck := time.NewTicker(recheckPause)
	defer recheck.Stop()
	for last := false; !last; {
		select {
		case <-w.woken:
		case <-recheck.C:
			if err := a.checkKey(ctx, c); err != nil {
				return link, err
			}
			continue
		case <-timeout.C:
			last = true
		case <-a.draining:
			last = true
		case <-ctx.Done():
			return link, nil
		}
		reading, cancel := context.WithTimeout(ctx, time.Second)
		now, err := readLink(reading, a.client(c), link.ApplicationID, link.Generation)
		cancel()
		if err == nil {
			link = now
		} else if !last {
			retry := time.AfterFunc(streamPause, w.wake)
			defer retry.Stop()
		}
		if settled(link.Status) {
			return link, nil
		}
	}
	return link, nil
}

// readLink reads a generation of a request, or the latest if generation is 0.
func readLink(ctx context.Context, client *tasks.Client, applicationID string, generation int) (tasks.Link, error) {
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

// parseID returns the application ID and the generation that the URL names.
func (c *call) parseID() (applicationID string, generation int, err error) {
	if err := c.noBody("generation"); err != nil {
		return "", 0, err
	}
	return c.pathID(c.r.URL.Query().Get("generation"))
}

// pathID returns the application ID that the path names, and the parsed generation.
func (c *call) pathID(generation string) (string, int, error) {
	applicationID := c.r.PathValue("application_id")
	r, err := tasks.ParseText(func(key string) string {
		return map[string]string{"application_id": applicationID, "generation": generation}[key]
	})
	if e, ok := errors.AsType[*tasks.InvalidError](err); ok {
		return "", 0, invalid(http.StatusBadRequest, e.Problems)
	}
	return applicationID, r.Generation, err
}

// visible removes from a link what the key may not read.
func (c *call) visible(l tasks.Link) tasks.Link {
	if !c.key.Allows(apikey.Read) {
		l.LinkID, l.URL, l.Metadata = "", "", nil
	}
	return l
}

// getLink returns the state of a request.
func (a *API) getLink(c *call) error {
	id, generation, err := c.parseID()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), a.timeout)
	defer cancel()
	link, err := readLink(ctx, a.Client, id, generation)
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

// matches compares as RFC 9110 defines for If-None-Match. Our tags contain no comma.
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

// cancelTries is how often a cancel is tried if the request changes meanwhile.
const cancelTries = 5

// deleteLink cancels a request. If a call for it is in flight, the request ends with the
// answer to that call.
func (a *API) deleteLink(c *call) error {
	id, generation, err := c.parseID()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), a.timeout)
	defer cancel()
	link, err := readLink(ctx, a.Client, id, generation)
	if err != nil {
		return err
	}
	if err := a.record(ctx, c, "links.cancel", id); err != nil {
		return err
	}
	for range cancelTries {
		r, ok, err := a.Stores.Records.Get(ctx, id)
		switch {
		case err != nil:
			return err
		case !ok:
			return tasks.ErrNotFound
		case generation != 0 && r.Generation != generation:
			return ended(link) // there is a later generation
		}
		state, err := a.Stores.Requests.Cancel(ctx, r)
		if err != nil {
			return err
		}
		if state == "" {
			continue
		}
		return a.cancelled(ctx, c, r, state)
	}
	return unavailable(errors.New("the request kept changing"))
}

// cancelled responds with the state of a cancelled request.
func (a *API) cancelled(ctx context.Context, c *call, r request.Record, state request.State) error {
	link, err := readLink(ctx, a.Client, r.ApplicationID, r.Generation)
	if err != nil {
		return err
	}
	link = c.visible(link)
	switch state { //nolint:exhaustive // a cancel leaves no other state
	case request.Calling:
		return c.json(http.StatusAccepted, link)
	case request.Created, request.Failed:
		return ended(link)
	}
	return c.json(http.StatusOK, link)
}

// flag parses a boolean parameter.
func flag(key, value string) (bool, error) {
	if value == "" {
		return false, nil
	}
	if value != "true" && value != "false" {
		return false, malformed(key, "must be true or false")
	}
	return strconv.ParseBool(value)
}

// caller returns the caller that a key identifies.
func caller(k apikey.Key) tasks.Caller {
	return tasks.Caller{ID: k.ID, OnlyOwn: !k.Allows(apikey.Read), RedirectHosts: k.RedirectHosts}
}
