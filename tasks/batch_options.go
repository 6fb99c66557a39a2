package tasks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/lua"
	"github.com/kyclink/kyclink/internal/request"
)

// Options are the defaults of a batch for rows that do not set a value. They take
// precedence over the worker's defaults. Zero values mean "not set". The fields are
// those of [Request].
type Options struct {
	RedirectURL      string
	ExpiryMinutes    int
	DocumentOptional *bool
	WorkflowID       string
	CallbackURL      string
	// NotAfter applies to rows without their own. Once it has passed, such rows are no
	// longer accepted.
	NotAfter time.Time
}

func (o Options) request() Request {
	return Request{
		RedirectURL: o.RedirectURL, ExpiryMinutes: o.ExpiryMinutes, DocumentOptional: o.DocumentOptional,
		WorkflowID: o.WorkflowID, CallbackURL: o.CallbackURL, NotAfter: o.NotAfter,
	}
}

func (o Options) problems(d destinations) []Problem {
	r := o.request()
	r.ApplicationID = "-"
	return r.allProblems(d)
}

// OptionsError reports that a batch has other options (reason "conflict").
type OptionsError struct {
	Batch string
	Keys  []string // with different values
}

func (e *OptionsError) Error() string {
	return fmt.Sprintf("batch %q has different values of %s; omit these keys, or use another batch", e.Batch, strings.Join(e.Keys, ", "))
}

// openBatch is a batch that accepts rows.
type openBatch struct {
	number   int
	notAfter time.Time
	opened   time.Time // on Redis' clock
}

// acceptance classifies an accepted row. A record that was written since the batch was
// opened, but not by this call, is from a call whose reply was lost.
func (b openBatch) acceptance(a accepted, row Row) Acceptance {
	switch r := a.record; {
	case r.Batch != b.number:
		return Joined
	case r.Content.Row != row.Number:
		return Repeated
	case a.isNew || r.AcceptedAt.After(b.opened):
		return Fresh
	}
	return Earlier
}

// openBatch opens a batch, and creates it if the name is new.
func (c *Client) openBatch(ctx context.Context, batch Batch) (openBatch, error) {
	if err := batch.check(c.destinations); err != nil {
		return openBatch{}, err
	}
	given := batch.Options.request().content()
	text, err := json.Marshal(given)
	if err != nil {
		return openBatch{}, fmt.Errorf("encode the options of batch %q: %w", batch.Name, err)
	}
	due := ""
	if !given.NotAfter.IsZero() {
		due = strconv.FormatInt(given.NotAfter.UnixMilli(), 10)
	}
	reply, err := openBatchScript.Run(ctx, c.rdb, []string{c.keys.Tag()}, lua.Args{
		"name": batch.Name, "options": text, "not_after": due, "api_key": c.caller.ID, "trace": c.tracer.Stored(ctx),
	}).StringSlice()
	if err != nil {
		return openBatch{}, fmt.Errorf("open batch %q: %w", batch.Name, err)
	}
	number, numberErr := strconv.Atoi(reply[0])
	now, nowErr := strconv.ParseInt(reply[2], 10, 64)
	if err := errors.Join(numberErr, nowErr); err != nil {
		return openBatch{}, fmt.Errorf("open batch %q: %w", batch.Name, err)
	}
	c.names.Store(number, batch.Name)
	if c.caller.OnlyOwn && reply[3] != c.caller.ID {
		return openBatch{}, foreignBatch(batch)
	}
	fixed, err := batch.compareOptions(reply[1])
	return openBatch{number, fixed.NotAfter, time.UnixMilli(now)}, err
}

// check validates the name and the options.
func (b Batch) check(d destinations) error {
	if err := checkBatchName(b.Name); err != nil {
		return err
	}
	return invalid(b.Options.problems(d))
}

// compareOptions decodes the options that the batch has, and compares b's with them.
func (b Batch) compareOptions(raw string) (fixed request.Content, err error) {
	if raw != "" {
		if err := json.Unmarshal([]byte(raw), &fixed); err != nil {
			return fixed, fmt.Errorf("decode the options of batch %q: %w", b.Name, err)
		}
	}
	if keys := differences(fixed, b.Options.request().content()); len(keys) > 0 {
		return fixed, &OptionsError{b.Name, keys}
	}
	return fixed, nil
}

// BatchOptions returns the options that a batch has, or would get if it is new. It
// changes nothing. Its errors are those that [Client.EnqueueAll] returns before it reads
// a row.
func (c *Client) BatchOptions(ctx context.Context, batch Batch) (Options, error) {
	if err := batch.check(c.destinations); err != nil {
		return Options{}, err
	}
	number, err := c.rdb.HGet(ctx, c.keys.Batches(), batch.Name).Int()
	if errors.Is(err, redis.Nil) {
		return batch.Options, nil
	}
	var hash []any
	if err == nil {
		hash, err = c.rdb.HMGet(ctx, c.keys.Batch(number), "options", "status", "by").Result()
	}
	if err != nil {
		return Options{}, fmt.Errorf("read batch %q: %w", batch.Name, err)
	}
	if by, _ := hash[2].(string); c.caller.OnlyOwn && by != c.caller.ID {
		return Options{}, foreignBatch(batch)
	}
	if hash[1] == "cancelled" {
		return Options{}, &CancelledError{batch.Name}
	}
	raw, _ := hash[0].(string) // nil if the batch has none
	o, err := batch.compareOptions(raw)
	return Options{o.RedirectURL, o.ExpiryMinutes, o.DocumentOptional, o.WorkflowID, o.CallbackURL, o.NotAfter}, err
}
