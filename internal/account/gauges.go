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

// Gauges are the metrics of an account. The time to read them does not depend on the number
// of requests.
type Gauges struct {
	Gate admission.GateStatus
	Rate float64 // in force, per second
	// Backlog and Workers are as in [Status].
	Backlog Backlog
	Workers int
	Oldest  Oldest
	Memory  Memory
	// Held, Failed and GivenUp are the numbers of requests and deliveries that wait for an
	// operator; Pending is the number of deliveries in progress.
	Held, Failed, GivenUp, Pending int
	// Created, EndedFailed and EndedCancelled count the runs with that end, and
	// PossibleDuplicates the possible duplicates, since the first version that counted
	// them.
	Created, EndedFailed, EndedCancelled, PossibleDuplicates int
	// Results has the first [MaxGaugedGroups] groups by name. If Redis does not know a
	// group's lag, at most a hundred events are counted.
	Results results.Status
}

// MaxGaugedGroups is the number of groups that [Reader.Gauges] reads.
const MaxGaugedGroups = 50

// maxGaugedEvents is the number of events that are counted for a group. Counting reads them,
// for each group, at each scrape of each process: with a thousand, a scrape read 20 MB.
const maxGaugedEvents = 100

// Gauges reads the gauges.
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
	if g.Oldest, err = a.oldest(ctx); err != nil {
		return g, err
	}
	if g.Memory, err = a.memory(ctx); err != nil {
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

// parseCount parses a number; an absent one is 0.
func parseCount(value any) int {
	text, _ := value.(string)
	n, _ := strconv.Atoi(text)
	return n
}
