// Package ledger is what is known of each request, and the only place where
// that changes: every transition is one script, which moves the record, turns
// the counters of its batch and publishes the event of an end, all or nothing.
//
// The table says what each transition (column) makes of a request in each state
// (row): the state it is in afterwards, with * where an event is published, and
// - where nothing changes. TestStateTable runs it, cell by cell, from here.
//
//	          accept  promote next    feed   mark    created  retry   fail    hold  dead  back   cancel     drop       expire  again    pass    poison   paused  calloff    erase   refresh
//	none      waiting -       -       -      -       -        -       -       -     -     -      -          -          -       -       -        -        -       -          -       -
//	waiting   -       queued  -       queued -       created* -       -       -     -     -      cancelled* -          failed* -       -        -        -       cancelled* -       -
//	queued    -       queued  -       -      calling created* -       -       -     -     -      cancelled* -          failed* -       queued   failed*  waiting cancelled* -       -
//	calling   -       -       -       -      -       created* queued  failed* held* held* queued -          -          -       -       -        failed*  -       -          -       -
//	held      -       -       -       -      -       created* -       -       -     -     -      cancelled* cancelled* failed* waiting -        -        -       cancelled* -       -
//	created   -       -       waiting -      -       -        -       -       -     -     -      -          -          -       -       -        -        -       -          none    waiting
//	failed    -       -       waiting -      -       -        -       -       -     -     -      -          -          -       waiting -        -        -       -          none    -
//	cancelled -       -       waiting -      -       -        -       -       -     -     -      -          -          -       -       -        -        -       -          none    -
//
// accept, promote and next (a new generation) are the producer's, in package
// tasks. mark makes an attempt; created, retry, fail, hold, dead and back are how
// one ends, and the last five count only from the current attempt: dead is one
// whose process is, where the policy is to hold. A cancel while calling is
// remembered: created stays created, anything else becomes cancelled. A link that
// comes when no run is open is kept beside the outcome. A link that could not be used
// is kept with the hold, encrypted: mark then makes no attempt, and the queued request
// is created with that link, or held again. again is a person's retry:
// a new run of a failed request, or a held one that goes on; with a link that is kept
// beside the outcome, it ends as created without a call; drop is a person's
// cancel of a held one, and of nothing else. pass leaves a turn to another
// process, as the next one. poison ends what the program cannot handle. paused is
// mark where the request's batch is paused, and calloff what ends the requests of
// a batch that is cancelled as a whole. erase is what retention and forget do, and
// refresh asks for the next generation of a link of a batch that has expired.
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

// Config says how this process changes requests.
type Config struct {
	// Credential is the fingerprint of the credentials that this process calls FaceKi
	// with. What FaceKi refuses to one credential closes the gate for that one only.
	Credential string
	// HoldUncertain holds a request for a person, instead of retrying it, where an
	// attempt ended without an answer or its process died.
	HoldUncertain bool
	// RowsRefused is called when a fault pauses its batch because as many of its calls in a
	// row as [github.com/kyclink/kyclink/internal/batch.MostRefused] were refused as invalid; message is the last one's. It
	// may be nil.
	RowsRefused func(batch, message string)
}

// Ledger changes the requests of one account. It is safe for concurrent use.
type Ledger struct {
	rdb         redis.UniversalClient
	keys        keyspace.Keys
	cfg         Config
	member      *fleet.Member
	commits     commits
	records     *record.Reader
	names       *batchname.Reader
	events      *event.Encoder
	quarantined *quarantine.List
}

// New returns a ledger of the account of keys, for the process that member describes. It
// uses, and does not close, rdb.
func New(rdb redis.UniversalClient, keys keyspace.Keys, member *fleet.Member, cfg Config) *Ledger {
	names := batchname.NewReader(rdb, keys)
	return &Ledger{
		rdb: rdb, keys: keys, cfg: cfg, member: member,
		commits: commits{rdb: rdb, tag: keys.Tag(), farAway: farAway, expected: member.Expected, script: commitScript},
		records: record.NewReader(rdb, keys), names: names, events: event.NewEncoder(keys.Account, names),
		quarantined: quarantine.NewList(rdb, keys),
	}
}

// Restore puts records of a batch back that a journal kept, where Redis did
// not. An attempt that was under way is dead and counts as a possible
// duplicate: its request is held where [Config].HoldUncertain. What has not ended
// otherwise waits to be fed, or is queued where it is interactive: its task is missing
// then, as [Ledger.Overdue] says at once.
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

// holdRestored passes over what was known already, and is not that attempt.
func (l *Ledger) holdRestored(ctx context.Context, r request.Record) error {
	now, ok, err := l.records.Get(ctx, r.ApplicationID)
	if err != nil || !ok || now.State != request.Calling || !now.ChangedAt.Equal(r.ChangedAt) {
		return err
	}
	_, err = l.Hold(ctx, now)
	return err
}
