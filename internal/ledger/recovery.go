package ledger

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/kyclink/kyclink/internal/event"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/lua"
	"github.com/kyclink/kyclink/internal/request"
)

var (
	overdueTasksScript    = scripts.Script("overdue_tasks.lua")
	lostCallsScript       = scripts.Script("lost_calls.lua")
	expiredRequestsScript = scripts.Script("expired_requests.lua")
	expiredBatchScript    = scripts.Script("expired_batch.lua")
	requeueNewerScript    = scripts.Script("requeue_newer.lua")
)

const (
	recoveryPage      = 200 // requests of one script, which must not block Redis for long
	expiredPage       = 100 // the same for whole records
	expireConcurrency = 16
	// takenLease is how long a process leads after [Ledger.RequeueNewer]: until its feeder,
	// which follows once a second, feeds.
	takenLease = 3 * time.Second
)

// Overdue returns turns of a lane that are overdue by a duration without being taken. The
// caller ensures that they have their task. A returned turn is returned again after the same
// duration. more reports that there are others.
func (l *Ledger) Overdue(ctx context.Context, lane request.Lane, since time.Duration) (refs []request.Ref, more bool, err error) {
	reply, err := overdueTasksScript.Run(ctx, l.rdb, []string{l.keys.Tag()}, lua.Args{
		"lane": string(lane[0]), "overdue_for": since.Milliseconds(), "max": recoveryPage,
	}).StringSlice()
	if err != nil {
		return nil, false, fmt.Errorf("find overdue requests: %w", err)
	}
	refs, err = parseRefs(reply[1:])
	return refs, reply[0] == strconv.Itoa(recoveryPage), err
}

// LostCalls returns the turns whose call died with its process, a page at a time. The caller
// ensures that they have their task; the process that takes the task decides about the
// attempt. The first page is "", and next is "" after the last page.
func (l *Ledger) LostCalls(ctx context.Context, page string) (lost []request.Turn, next string, err error) {
	reply, err := lostCallsScript.Run(ctx, l.rdb, []string{l.keys.Tag()}, lua.Args{
		"unbroken": l.member.Unbroken().Milliseconds(), "dead": l.member.DeadAfter().Milliseconds(), "expected_time": l.member.Expected(),
		"skip": skip(page), "max": recoveryPage,
	}).StringSlice()
	if err != nil {
		return nil, "", fmt.Errorf("find lost calls: %w", err)
	}
	for i := 1; i < len(reply); i += 2 {
		ref, err := request.ParseRef(reply[i+1])
		if err != nil {
			return nil, "", err
		}
		lost = append(lost, request.Turn{Lane: request.Lane(reply[i]), Ref: ref})
	}
	return lost, reply[0], nil
}

func skip(page string) string {
	if page == "" {
		return "0"
	}
	return page
}

// batchPages names the pages of batches, which follow the pages of requests with their own
// not_after.
const batchPages = "batches"

// ExpireDue ends waiting, queued and held requests whose not_after, or that of their batch,
// has passed, a page at a time as in [Ledger.LostCalls]. It returns their number.
func (l *Ledger) ExpireDue(ctx context.Context, page string) (ended int, next string, err error) {
	if page == batchPages {
		reply, err := expiredBatchScript.Run(ctx, l.rdb, []string{l.keys.Tag()}, nil).StringSlice()
		if err != nil {
			return 0, "", fmt.Errorf("find expired batches: %w", err)
		}
		if reply[0] != "" {
			next = batchPages
		}
		ended, err = l.expirePage(ctx, reply)
		return ended, next, err
	}
	reply, err := expiredRequestsScript.Run(ctx, l.rdb, []string{l.keys.Tag()}, lua.Args{"skip": skip(page), "max": expiredPage}).StringSlice()
	if err != nil {
		return 0, "", fmt.Errorf("find expired requests: %w", err)
	}
	if next = reply[0]; next == "" {
		next = batchPages
	}
	ended, err = l.expirePage(ctx, reply)
	return ended, next, err
}

// expirePage ends the requests (id, record, ...) after the first element of a reply.
func (l *Ledger) expirePage(ctx context.Context, reply []string) (ended int, err error) {
	states := make([]request.State, len(reply)/2)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(expireConcurrency)
	for i := range states {
		group.Go(func() (err error) {
			states[i], err = l.expireDue(ctx, reply[1+2*i], []byte(reply[2+2*i]))
			return err
		})
	}
	err = group.Wait()
	for _, s := range states {
		if s == request.Failed {
			ended++
		}
	}
	return ended, err
}

func (l *Ledger) expireDue(ctx context.Context, id string, raw []byte) (request.State, error) {
	r, err := request.ParseHeader(id, raw)
	if err != nil {
		return "", err
	}
	why, err := event.Reason(fault.NotAfter, notAfterMessage)
	if err != nil {
		return "", err
	}
	return l.endRun(ctx, r, "F", why, "expired")
}

// RequeueNewer requeues bulk requests whose records an older version could not read, and
// returns their number. If there are any, this process becomes the leader that feeds.
func (l *Ledger) RequeueNewer(ctx context.Context) (int, error) {
	n, err := requeueNewerScript.Run(ctx, l.rdb, []string{l.keys.Tag()}, lua.Args{
		"process": l.member.Process(), "lease": takenLease.Milliseconds(), "max": recoveryPage,
	}).Int()
	if err != nil {
		return 0, fmt.Errorf("find records of a newer version: %w", err)
	}
	return n, nil
}

// CountRepairs adds to the account's counters of repairs by recovery, by kind. They are the
// fields "mended:<kind>" of [keyspace.Keys.State].
func (l *Ledger) CountRepairs(ctx context.Context, counts map[string]int) error {
	_, err := l.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for kind, n := range counts {
			pipe.HIncrBy(ctx, l.keys.State(), "mended:"+kind, int64(n))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("count the repairs: %w", err)
	}
	return nil
}
