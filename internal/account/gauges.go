package account

import (
	"context"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/results"
)

// Gauges are what is watched of an account all the time. To read them takes as long
// however much there is of anything.
type Gauges struct {
	Gate admission.GateStatus
	Rate float64 // that is in force, per second
	// Backlog and Workers are as in [Status].
	Backlog Backlog
	Workers int
	// Held and Failed are how many requests wait for a person, GivenUp how many
	// callbacks do; Pending is how many callbacks are on their way.
	Held, Failed, GivenUp, Pending int
	// Created, EndedFailed and EndedCancelled are how many runs ever came to that
	// end, and PossibleDuplicates how many attempts ever did that may have made a
	// link nobody knows of: both since the version that began to count them.
	Created, EndedFailed, EndedCancelled, PossibleDuplicates int
	// Results has the first [MostGauged] groups by name. Where Redis does not know a
	// group's lag, it is counted to a hundred at most.
	Results results.Status
}

// MostGauged is how many groups [Reader.Gauges] looks at.
const MaxGaugedGroups = 50

// gaugedEvents is how many events are counted for a group. To count is to read them,
// for each group, at each scrape of each process: a thousand were 20 MB a scrape.
const maxGaugedEvents = 100

// Gauges reads them; nothing is changed by it.
func (a *Reader) Gauges(ctx context.Context) (g Gauges, err error) {
	status, err := admission.Read(ctx, a.rdb, a.keys)
	if err != nil {
		return g, err
	}
	rate, err := admission.ParseRate(status.Rate.Limit)
	if err != nil {
		return g, fmt.Errorf("read the rate: %w", err)
	}
	g.Gate, g.Rate = status.Gate, float64(rate.N)/rate.Per.Seconds()
	if _, g.Backlog, g.Workers, err = a.Summary(ctx); err != nil {
		return g, err
	}
	if g.Results, err = a.results.Sample(ctx, MaxGaugedGroups, maxGaugedEvents); err != nil {
		return g, err
	}
	var held, failed, givenUp, pending *redis.IntCmd
	var counts *redis.SliceCmd
	_, err = a.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		held, failed = pipe.ZCard(ctx, a.keys.OperatorList(request.Held)), pipe.ZCard(ctx, a.keys.OperatorList(request.Failed))
		givenUp, pending = pipe.ZCard(ctx, a.keys.Undelivered()), pipe.ZCard(ctx, a.keys.Pending())
		counts = pipe.HMGet(ctx, a.keys.State(), "successes", "ended:created", "ended:failed", "ended:cancelled", "possible_duplicates")
		return nil
	})
	if err != nil {
		return g, fmt.Errorf("read the account's counts: %w", err)
	}
	g.Held, g.Failed, g.GivenUp, g.Pending = int(held.Val()), int(failed.Val()), int(givenUp.Val()), int(pending.Val())
	n := counts.Val()
	g.Created = parseCount(n[0]) + parseCount(n[1])
	g.EndedFailed, g.EndedCancelled, g.PossibleDuplicates = parseCount(n[2]), parseCount(n[3]), parseCount(n[4])
	return g, nil
}

// count reads a number that is 0 where it is not there.
func parseCount(value any) int {
	text, _ := value.(string)
	n, _ := strconv.Atoi(text)
	return n
}
