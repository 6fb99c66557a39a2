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
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/account"
	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/batchname"
	"github.com/kyclink/kyclink/internal/deadletter"
	"github.com/kyclink/kyclink/internal/delivery"
	"github.com/kyclink/kyclink/internal/erasure"
	"github.com/kyclink/kyclink/internal/event"
	"github.com/kyclink/kyclink/internal/fleet"
	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/lua"
	"github.com/kyclink/kyclink/internal/quarantine"
	"github.com/kyclink/kyclink/internal/record"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/results"
)

var restoreScript = scripts.Script("restore.lua")

// Config says whose ledger it is.
type Config struct {
	// Account is the namespace of one FaceKi account.
	Account string
	// Simulated says that links come from a simulator. An account is real or
	// simulated from its first worker on.
	Simulated bool
	// Rate and Burst are put in force by [Ledger.Join]; a zero Rate leaves the
	// account's as it is.
	Rate  admission.Rate
	Burst int
	// RateChanged is called by [Ledger.Join] when it replaced another rate that a
	// worker had set; nil: nothing is.
	RateChanged func(from admission.Rate, fromBurst int)
	// Credential is the fingerprint of the credentials that this process calls
	// FaceKi with: what FaceKi refuses is not the account's others.
	Credential string
	// HoldUnknown holds a request for a person, instead of letting it be called
	// again, where an attempt ended without an answer, as its process did.
	HoldUnknown bool
	// Retention is how long an ended request is kept by [Ledger.Retire]; 0: for ever.
	Retention time.Duration
	// ResultsAge and ResultsCap are what [Ledger.TrimResults] keeps the results stream
	// within; where ResultsAge is 0 it is left alone.
	ResultsAge time.Duration
	ResultsCap int
	// RowsRefused is called when a fault pauses its batch, as [MostRefused] of its calls in
	// a row were refused as wrong; message is the last one's. It may be nil.
	RowsRefused func(batch, message string)
	// DeadAfter and GroupIdle replace [DeadAfter] and [GroupIdle] where they are not 0.
	DeadAfter, GroupIdle time.Duration
}

// Ledger is one process' access to the ledger. It is safe for concurrent use.
type Ledger struct {
	*records

	*deliveries
	*deadLetters
	*quarantined
	*batches
	*stream
	*eraser
	*member
	*accountReader

	rdb     redis.UniversalClient
	keys    keyspace.Keys
	cfg     Config
	commits commits
	names   *batchname.Reader
	events  *event.Encoder
}

type (
	records       = record.Reader
	deliveries    = delivery.Store
	deadLetters   = deadletter.Lists
	quarantined   = quarantine.List
	batches       = batch.Store
	stream        = results.Stream
	eraser        = erasure.Eraser
	member        = fleet.Member
	accountReader = account.Reader
)

// New makes a ledger that uses, and does not close, rdb.
func New(rdb redis.UniversalClient, cfg Config) *Ledger {
	keys := keyspace.Keys{Account: cfg.Account}
	names := batchname.NewReader(rdb, keys)
	l := &Ledger{
		records: record.NewReader(rdb, keys), names: names, events: event.NewEncoder(cfg.Account, names),
		deliveries: delivery.NewStore(rdb, keys), deadLetters: deadletter.New(rdb, keys), quarantined: quarantine.NewList(rdb, keys),
		batches: batch.NewStore(rdb, keys),
		stream:  results.NewStream(rdb, keys, results.Config{Age: cfg.ResultsAge, Cap: cfg.ResultsCap, GroupIdle: cfg.GroupIdle}),
		eraser:  erasure.New(rdb, keys, cfg.Retention),
		member: fleet.New(rdb, fleet.Config{
			Account: cfg.Account, Simulated: cfg.Simulated, Rate: cfg.Rate, Burst: cfg.Burst, RateChanged: cfg.RateChanged, DeadAfter: cfg.DeadAfter,
		}),
		accountReader: account.NewReader(rdb, keys),
		rdb:           rdb, keys: keys, cfg: cfg,
	}
	l.commits = commits{
		rdb: rdb, tag: l.keys.Tag(), farAway: farAway, expected: l.Expected,
		script: commitScript,
	}
	return l
}

// Restore puts records of a batch back that a journal kept, where Redis did
// not. An attempt that was under way is dead and counts as a possible
// duplicate: its request is held where [Config].HoldUnknown. What has not ended
// otherwise waits to be fed, or is queued where it is interactive: its task is missing
// then, as [Ledger.Overdue] says at once.
func (l *Ledger) Restore(ctx context.Context, batch string, records []request.Record) error {
	rows := lua.NewRows("id", "raw", "not_after")
	var dead []request.Record
	for _, r := range records {
		switch {
		case r.State == request.Calling && l.cfg.HoldUnknown:
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
	now, ok, err := l.Get(ctx, r.ApplicationID)
	if err != nil || !ok || now.State != request.Calling || !now.ChangedAt.Equal(r.ChangedAt) {
		return err
	}
	_, err = l.Hold(ctx, now)
	return err
}

// Keys names the account's keys.
func (l *Ledger) Keys() keyspace.Keys { return l.keys }
