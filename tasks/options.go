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

// Options are what the rows of a batch get where they give nothing themselves;
// the worker's defaults come after them. Zero values mean "not given". The fields
// are those of [Request].
type Options struct {
	RedirectURL      string
	ExpiryMinutes    int
	DocumentOptional *bool
	WorkflowID       string
	CallbackURL      string
	// NotAfter holds for the rows that give none. Once it has passed, no other
	// rows are accepted.
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

// OptionsError says that a batch has other options (reason "conflict").
type OptionsError struct {
	Batch string
	Keys  []string // that differ
}

func (e *OptionsError) Error() string {
	return fmt.Sprintf("batch %q was begun with another %s; leave these out, or use another batch", e.Batch, strings.Join(e.Keys, ", "))
}

// openBatch is a batch that rows are accepted in.
type openBatch struct {
	number   int
	notAfter time.Time
	opened   time.Time // by Redis' clock; zero: not to be told
}

// how tells what a row found. One that was accepted in this import, and not by
// this call, is one whose answer was lost.
func (b openBatch) how(a accepted, row Row) Acceptance {
	switch r := a.record; {
	case r.Batch != b.number:
		return Joined
	case r.Content.Row != row.Number:
		return Repeated
	case a.made || r.AcceptedAt.After(b.opened):
		return Fresh
	}
	return Earlier
}

// openBatch makes the batch where its name is new.
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
		"name": batch.Name, "options": text, "not_after": due, "api_key": c.caller.ID,
	}).StringSlice()
	if err != nil {
		return openBatch{}, fmt.Errorf("open batch %q: %w", batch.Name, err)
	}
	number, wrong := strconv.Atoi(reply[0])
	now, alsoWrong := strconv.ParseInt(reply[2], 10, 64)
	if err := errors.Join(wrong, alsoWrong); err != nil {
		return openBatch{}, fmt.Errorf("open batch %q: %w", batch.Name, err)
	}
	c.names.Store(number, batch.Name)
	if c.caller.OnlyOwn && reply[3] != c.caller.ID {
		return openBatch{}, foreignBatch(batch)
	}
	fixed, err := batch.fixed(reply[1])
	return openBatch{number, fixed.NotAfter, time.UnixMilli(now)}, err
}

// check is what can be said of a batch without knowing of it.
func (b Batch) check(d destinations) error {
	if err := batchName(b.Name); err != nil {
		return err
	}
	return invalid(b.Options.problems(d))
}

// fixed reads the options that the batch has, and compares them with those given.
func (b Batch) fixed(raw string) (fixed request.Content, err error) {
	if raw != "" {
		if err := json.Unmarshal([]byte(raw), &fixed); err != nil {
			return fixed, fmt.Errorf("options of batch %q: %w", b.Name, err)
		}
	}
	if keys := differences(fixed, b.Options.request().content()); len(keys) > 0 {
		return fixed, &OptionsError{b.Name, keys}
	}
	return fixed, nil
}

// BatchOptions gives the options that a batch has, or would get. It changes nothing; its
// errors are those that [Client.EnqueueAll] gives before it reads a row.
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
	raw, _ := hash[0].(string) // nil where it has none
	o, err := batch.fixed(raw)
	return Options{o.RedirectURL, o.ExpiryMinutes, o.DocumentOptional, o.WorkflowID, o.CallbackURL, o.NotAfter}, err
}
