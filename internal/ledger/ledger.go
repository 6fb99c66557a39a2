// Package ledger changes requests. Each transition is one script, which changes the
// record, moves the counters of its batch and publishes the event of an end, all or
// nothing. Nothing else changes a request.
//
// The table says what each transition (column) makes of a request in each state
// (row): the state after it, with * if an event is published, and - if nothing
// changes. TestStateTable executes it, cell by cell.
//
//	          accept  promote next    feed   admit   created  retry  fail    hold  lost  requeue cancel     drop       expire  reopen  release quarantine paused  cancelall  erase refresh
//	none      waiting -       -       -      -       -        -      -       -     -     -       -          -          -       -       -       -          -       -          -     -
//	waiting   -       queued  -       queued -       created* -      -       -     -     -       cancelled* -          failed* -       -       -          -       cancelled* -     -
//	queued    -       queued  -       -      calling created* -      -       -     -     -       cancelled* -          failed* -       queued  failed*    waiting cancelled* -     -
//	calling   -       -       -       -      -       created* queued failed* held* held* queued  -          -          -       -       -       failed*    -       -          -     -
//	held      -       -       -       -      -       created* -      -       -     -     -       cancelled* cancelled* failed* waiting -       -          -       cancelled* -     -
//	created   -       -       waiting -      -       -        -      -       -     -     -       -          -          -       -       -       -          -       -          none  waiting
//	failed    -       -       waiting -      -       -        -      -       -     -     -       -          -          -       waiting -       -          -       -          none  -
//	cancelled -       -       waiting -      -       -        -      -       -     -     -       -          -          -       -       -       -          -       -          none  -
//
// accept, promote and next (a new generation) are transitions of the producer, in package
// tasks. feed makes a waiting request queued. admit begins an attempt; paused is admit while
// the request's batch is paused. created, retry, fail, hold, lost and requeue end an attempt.
// The last five count only for the current attempt; lost is that of a dead process, if the
// policy is to hold. release releases a turn, so that another process may take the next one.
// quarantine ends a request that this version cannot process.
//
// cancel, expire and drop end a request without a call; drop is an operator's cancel of
// a held request, and of no other. cancelall ends the requests of a batch that was
// cancelled as a whole. A cancel during a call is stored: created stays created, and any
// other end becomes cancelled. reopen is an operator's retry: it starts a new run of a
// failed request, or continues a held one. erase is made by retention and forget, and
// refresh asks for the next generation of an expired link of a batch.
//
// A link that arrives when no run is open is kept beside the outcome, and reopen then ends
// the request as created without a call. A link that could not be used is kept with the
// hold, encrypted: after a retry, admit begins no attempt, and the request becomes created
// with that link, or is held again.
package ledger

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/batchname"
	"github.com/kyclink/kyclink/internal/event"
	"github.com/kyclink/kyclink/internal/fleet"
	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/lua"
	"github.com/kyclink/kyclink/internal/quarantine"
	"github.com/kyclink/kyclink/internal/record"
	"github.com/kyclink/kyclink/internal/request"
)

var restoreScript = scripts.Script("restore.lua")

// Config configures a [Ledger].
type Config struct {
	// Credential is the fingerprint of the credentials with which this process calls
	// FaceKi. If FaceKi refuses credentials, only calls with them stop.
	Credential string
	// HoldUncertain holds a request for an operator, instead of retrying it, after an
	// attempt with an uncertain outcome.
	HoldUncertain bool
	// RowsRefused is called when a fault pauses its batch, since too many of the batch's
	// calls in a row were refused as invalid; message is that of the last one. It may be
	// nil.
	RowsRefused func(batch, message string)
}

// Ledger changes the requests of one account. It is safe for concurrent use.
type Ledger struct {
	rdb         redis.UniversalClient
	keys        keyspace.Keys
	cfg         Config
	member      *fleet.Member
	commits     committer
	records     *record.Reader
	names       *batchname.Reader
	events      *event.Encoder
	quarantined *quarantine.List
}

// New returns the ledger of an account for the process that member represents. It uses, and
// does not close, rdb.
func New(rdb redis.UniversalClient, keys keyspace.Keys, member *fleet.Member, cfg Config) *Ledger {
	names := batchname.NewReader(rdb, keys)
	return &Ledger{
		rdb: rdb, keys: keys, cfg: cfg, member: member,
		commits: committer{rdb: rdb, tag: keys.Tag(), maxSharedTrip: defaultMaxSharedTrip, expected: member.Expected, script: commitScript},
		records: record.NewReader(rdb, keys), names: names, events: event.NewEncoder(keys.Account, names),
		quarantined: quarantine.NewList(rdb, keys),
	}
}

// Restore restores records of a batch that a journal kept and Redis lost. An attempt in
// flight is lost and counts as a possible duplicate: its request is held if
// [Config].HoldUncertain is set. Any other request that has not ended waits to be fed or, if
// it is interactive, is queued without a task, and [Ledger.Overdue] returns it.
func (l *Ledger) Restore(ctx context.Context, batch string, records []request.Record) error {
	rows := lua.NewRows("id", "raw", "not_after")
	var dead []request.Record
	for _, r := range records {
		switch {
		case r.State == request.Calling && l.cfg.HoldUncertain:
			dead = append(dead, r)
		case r.State == request.Calling:
			r.PossibleDuplicates++
			fallthrough
		case r.State == request.Queued, r.State == request.Waiting:
			if r.State = request.Waiting; r.Lane == request.Interactive {
				r.State = request.Queued
			}
		}
		raw, err := r.Encode()
		if err != nil {
			return err
		}
		rows.Add(r.ApplicationID, raw, r.Content.NotAfter.UnixMilli())
	}
	if err := restoreScript.Run(ctx, l.rdb, []string{l.keys.Tag()}, lua.Args{"batch": batch}, rows).Err(); err != nil {
		return fmt.Errorf("restore %d records: %w", len(records), err)
	}
	for _, r := range dead {
		if err := l.holdRestored(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// holdRestored holds a restored request, unless its current attempt is another one.
func (l *Ledger) holdRestored(ctx context.Context, r request.Record) error {
	now, ok, err := l.records.Get(ctx, r.ApplicationID)
	if err != nil || !ok || now.State != request.Calling || !now.ChangedAt.Equal(r.ChangedAt) {
		return err
	}
	_, err = l.Hold(ctx, now)
	return err
}
