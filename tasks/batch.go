package tasks

import (
	"context"
	_ "embed"
	"fmt"
	"iter"
)

//go:embed batch.lua
var batchLua string

// chunkRows is how many of the input's row numbers one chunk of a batch spans.
const chunkRows = 100

// EnqueueAll accepts the rows of a batch, whose numbers must grow, in their
// order and in constant memory. It is repeatable: rows that were accepted
// before stay as they are, so that an import that broke off is simply done
// again. Requests that give no lane are bulk.
//
// done is called for every row in order, with the link or the error that
// [Client.Enqueue] would give for it. EnqueueAll itself fails where Redis does,
// or ctx ends; what was accepted stays accepted. One name must not be imported
// from two places at once.
func (c *Client) EnqueueAll(ctx context.Context, batch string, rows iter.Seq[Row], done func(Row, Link, error)) error {
	number, err := c.batchNumber(ctx, batch)
	if err != nil {
		return err
	}
	next, pending := 0, []Row(nil)
	for row := range rows {
		if row.Request.Lane == "" {
			row.Request.Lane = Bulk
		}
		for ; (row.Number-1)/chunkRows > next; next++ {
			if err := c.acceptChunk(ctx, batch, number, next, pending, done); err != nil {
				return err
			}
			pending = pending[:0]
		}
		pending = append(pending, row)
	}
	return c.acceptChunk(ctx, batch, number, next, pending, done)
}

// acceptChunk accepts one chunk. Of rows with the same id the first one counts,
// the others are compared with it.
func (c *Client) acceptChunk(ctx context.Context, name string, batch, number int, rows []Row, done func(Row, Link, error)) error {
	var distinct []Row
	errs := make([]error, len(rows))
	place := make(map[string]int, len(rows))
	for i, row := range rows {
		if errs[i] = row.Request.acceptable(); errs[i] != nil {
			continue
		}
		if _, twice := place[row.Request.ApplicationID]; !twice {
			place[row.Request.ApplicationID] = len(distinct)
			distinct = append(distinct, row)
		}
	}
	results, err := c.acceptAll(ctx, batch, number, distinct)
	if err != nil {
		return err
	}
	for i := range results {
		if results[i].err == nil {
			if err := c.dispatch(ctx, results[i].record); err != nil {
				return err
			}
		}
	}
	for i, row := range rows {
		var link Link
		if errs[i] == nil {
			first := place[row.Request.ApplicationID]
			link, errs[i] = c.rowLink(ctx, name, batch, row, distinct[first], results[first])
		}
		done(row, link, errs[i])
	}
	return nil
}

// rowLink is the answer for one row, given the first row with its id and what
// became of that.
func (c *Client) rowLink(ctx context.Context, name string, batch int, row, first Row, result accepted) (Link, error) {
	if row.Number != first.Number && result.err != nil {
		alone, err := c.acceptAll(ctx, batch, noChunk, []Row{row})
		if err != nil {
			return Link{}, err
		}
		first, result = row, alone[0]
	}
	if result.err != nil {
		return Link{}, result.err
	}
	if row.Number != first.Number {
		if keys := differences(result.record.Content, row.Request.content()); len(keys) > 0 {
			return Link{}, &ConflictError{row.Request.ApplicationID, keys}
		}
	}
	if result.record.Batch == batch {
		return LinkOf(result.record, name, c.now()), nil
	}
	return c.link(ctx, result.record)
}

// batchNumber gives the number of a batch, and makes the batch where it is new.
func (c *Client) batchNumber(ctx context.Context, name string) (int, error) {
	number, err := c.batch.Run(ctx, c.rdb, []string{c.keys.Tag()}, name).Int()
	if err != nil {
		return 0, fmt.Errorf("open batch %q: %w", name, err)
	}
	return number, nil
}
