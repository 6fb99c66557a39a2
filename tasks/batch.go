package tasks

import (
	"context"
	_ "embed"
	"fmt"
	"iter"
	"strings"
	"unicode"
	"unicode/utf8"
)

//go:embed batch.lua
var batchLua string

// chunkRows is how many of the input's row numbers one chunk of a batch spans.
const chunkRows = 100

// MaxBatchName is how many bytes a batch's name has at most: a path fits.
const MaxBatchName = 4096

// EnqueueAll accepts the rows of a batch, whose numbers must grow, in their
// order and in constant memory. It is repeatable: rows that were accepted
// before stay as they are, so that an import that broke off is simply done
// again. Requests that give no lane are bulk.
//
// done is called for every row in order, with the link or the error that
// [Client.Enqueue] would give for it. EnqueueAll itself fails where Redis does,
// ctx ends or the numbers do not grow; what was accepted stays accepted. It
// gives an [*InvalidError] for a name that is empty, too long or unprintable. One name must not be imported
// from two places at once.
func (c *Client) EnqueueAll(ctx context.Context, batch string, rows iter.Seq[Row], done func(Row, Link, error)) error {
	if err := batchName(batch); err != nil {
		return err
	}
	number, err := c.batchNumber(ctx, batch)
	if err != nil {
		return err
	}
	last, next, pending := 0, 0, []Row(nil)
	for row := range rows {
		if row.Number <= last {
			return fmt.Errorf("batch %q: row %d comes after row %d; rows are numbered from 1, and the numbers grow", batch, row.Number, last)
		}
		if row.Request.Lane == "" {
			row.Request.Lane = Bulk
		}
		for ; (row.Number-1)/chunkRows > next; next++ {
			if err := c.acceptChunk(ctx, number, next, pending, done); err != nil {
				return err
			}
			pending = pending[:0]
		}
		last, pending = row.Number, append(pending, row)
	}
	return c.acceptChunk(ctx, number, next, pending, done)
}

// acceptChunk accepts one chunk, which may have no rows: feeding goes from one
// chunk to the next.
func (c *Client) acceptChunk(ctx context.Context, batch, number int, rows []Row, done func(Row, Link, error)) error {
	links, errs := make([]Link, len(rows)), make([]error, len(rows))
	var left []int
	for i, row := range rows {
		if errs[i] = row.Request.acceptable(); errs[i] == nil {
			left = append(left, i)
		}
	}
	var lines []line
	for ok := true; ok; ok = len(left) > 0 {
		wave, repeats := firsts(rows, left)
		chunk := number
		if len(repeats) > 0 {
			chunk = noChunk // the last wave writes it, whole
		}
		good := make([]Row, len(wave))
		for k, i := range wave {
			good[k] = rows[i]
		}
		results, err := c.acceptAll(ctx, batch, chunk, lines, good)
		if err != nil {
			return err
		}
		for k, i := range wave {
			if errs[i] = results[k].err; errs[i] != nil {
				continue
			}
			if links[i], err = c.dispatched(ctx, results[k].record); err != nil {
				return err
			}
			lines = append(lines, line{rows[i].Number, rows[i].Request.ApplicationID, results[k].record.Batch != batch})
		}
		left = repeats
	}
	for i, row := range rows {
		done(row, links[i], errs[i])
	}
	return nil
}

// firsts parts what is left of the rows into those whose id comes first, and
// those that repeat one: they are asked for after it.
func firsts(rows []Row, left []int) (wave, repeats []int) {
	ids := make(map[string]bool, len(left))
	for _, i := range left {
		if id := rows[i].Request.ApplicationID; ids[id] {
			repeats = append(repeats, i)
		} else {
			ids[id] = true
			wave = append(wave, i)
		}
	}
	return wave, repeats
}

// batchName refuses names that cannot be shown or found again.
func batchName(name string) error {
	problem := ""
	switch {
	case name == "":
		problem = "has no name"
	case len(name) > MaxBatchName:
		problem = fmt.Sprintf("has a name longer than %d bytes", MaxBatchName)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		problem = "has a name with control characters, or that is not UTF-8"
	}
	if problem == "" {
		return nil
	}
	return &InvalidError{[]Problem{{"batch", problem}}}
}

// batchNumber gives the number of a batch, and makes the batch where it is new.
func (c *Client) batchNumber(ctx context.Context, name string) (int, error) {
	number, err := c.batch.Run(ctx, c.rdb, []string{c.keys.Tag()}, name).Int()
	if err != nil {
		return 0, fmt.Errorf("open batch %q: %w", name, err)
	}
	c.names.Store(number, name)
	return number, nil
}
