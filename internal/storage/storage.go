// Package storage wires the packages that read and change the data of one account in Redis.
package storage

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/account"
	"github.com/kyclink/kyclink/internal/activity"
	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/deadletter"
	"github.com/kyclink/kyclink/internal/delivery"
	"github.com/kyclink/kyclink/internal/erasure"
	"github.com/kyclink/kyclink/internal/fleet"
	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/ledger"
	"github.com/kyclink/kyclink/internal/quarantine"
	"github.com/kyclink/kyclink/internal/record"
	"github.com/kyclink/kyclink/internal/results"
)

// Config configures [New]. All fields except the account may be zero in a process that makes
// no links.
type Config struct {
	// Fleet contains the account.
	Fleet   fleet.Config
	Ledger  ledger.Config
	Results results.Config
	// Retention is how long an ended request is kept; 0: forever.
	Retention time.Duration
}

// Stores are the stores of one account, one for each kind of data.
type Stores struct {
	Keys        keyspace.Keys
	Requests    *ledger.Ledger
	Records     *record.Reader
	Batches     *batch.Store
	Deliveries  *delivery.Store
	DeadLetters *deadletter.Lists
	Quarantine  *quarantine.List
	Results     *results.Stream
	Erasure     *erasure.Eraser
	Fleet       *fleet.Member
	Account     *account.Reader
	Activity    *activity.Store
}

// New returns the stores of an account, which use, and do not close, rdb.
func New(rdb redis.UniversalClient, cfg Config) *Stores {
	keys, member := keyspace.Keys{Account: cfg.Fleet.Account}, fleet.New(rdb, cfg.Fleet)
	return &Stores{
		Keys:        keys,
		Requests:    ledger.New(rdb, keys, member, cfg.Ledger),
		Records:     record.NewReader(rdb, keys),
		Batches:     batch.NewStore(rdb, keys),
		Deliveries:  delivery.NewStore(rdb, keys),
		DeadLetters: deadletter.New(rdb, keys),
		Quarantine:  quarantine.NewList(rdb, keys),
		Results:     results.NewStream(rdb, keys, cfg.Results),
		Erasure:     erasure.New(rdb, keys, cfg.Retention),
		Fleet:       member,
		Account:     account.NewReader(rdb, keys),
		Activity:    activity.NewStore(rdb, keys),
	}
}

// Of returns the stores of an account for a process that makes no links.
func Of(rdb redis.UniversalClient, account string) *Stores {
	return New(rdb, Config{Fleet: fleet.Config{Account: account}})
}

// Rows reads the rows of batches and their requests.
type Rows struct {
	*batch.Store
	records *record.Reader
}

// Rows returns a [Rows] of these stores.
func (s *Stores) Rows() Rows { return Rows{s.Batches, s.Records} }

// Latest is [record.Reader.Latest].
func (r Rows) Latest(ctx context.Context, ids []string) ([][]byte, error) {
	return r.records.Latest(ctx, ids)
}
