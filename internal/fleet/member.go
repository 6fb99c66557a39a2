// Package fleet keeps the list of the worker processes of an account: it registers and
// deregisters a process, records its heartbeats, and tells which processes are alive.
package fleet

import (
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/keyspace"

	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/lua"
)

var (
	heartbeatScript = scripts.Script("heartbeat.lua")
	leaveScript     = scripts.Script("leave.lua")
)

var (
	joinScript     = scripts.Script("join.lua")
	ledgerIDScript = scripts.Script("ledger_id.lua")
)

const (
	maxProcess  = int64(999_999) // what a record's header has room for
	forgetAfter = time.Hour      // after which a process that died is taken off the list
	// mostBetween is the longest pause between heartbeats of a process that decides whether
	// others are dead: longer than a slow heartbeat, and shorter than what makes others dead.
	maxPause = 8 * time.Second
	minBurst = 2 // bulk leaves one token to signups
)

// DeadAfter is how long a worker process must have been silent, while the checking process
// itself reached Redis without a break, before its attempts count as lost.
const DeadAfter = 15 * time.Second

// Config describes a process of the fleet.
type Config struct {
	// Account is the namespace of one FaceKi account.
	Account string
	// Simulated says that links come from a simulator. An account is real or
	// simulated from its first worker on.
	Simulated bool
	// Rate and Burst are put in force by [Member.Join]; a zero Rate leaves the
	// account's as it is.
	Rate  admission.Rate
	Burst int
	// RateChanged is called by [Member.Join] when it replaced another rate that a
	// worker had set; it may be nil.
	RateChanged func(from admission.Rate, fromBurst int)
	// DeadAfter replaces [DeadAfter] where it is not 0.
	DeadAfter time.Duration
}

// Member is this process as the account's workers know it. It is safe for concurrent
// use.
type Member struct {
	rdb      redis.UniversalClient
	keys     keyspace.Keys
	cfg      Config
	upstream string
	clock    *clock

	process       atomic.Int64           // this process' number, 0 before Join
	joined        atomic.Pointer[string] // the id of the ledger that was joined
	clientLedger  atomic.Pointer[string] // the id of the ledger that [Member.Touch] found last
	lastHeartbeat atomic.Pointer[heartbeatResult]
}

// New returns a member that has not joined, and that uses, and does not close, rdb.
func New(rdb redis.UniversalClient, cfg Config) *Member {
	if cfg.DeadAfter == 0 {
		cfg.DeadAfter = DeadAfter
	}
	m := &Member{rdb: rdb, keys: keyspace.Keys{Account: cfg.Account}, cfg: cfg, upstream: "real", clock: newClock()}
	if cfg.Simulated {
		m.upstream = "simulated"
	}
	return m
}

// Process returns this process' number, 0 before [Member.Join].
func (m *Member) Process() int64 { return m.process.Load() }

// Upstream returns of which kind this process' links are: real or simulated.
func (m *Member) Upstream() string { return m.upstream }

// UpstreamError returns the error of a process whose account is of the other kind.
func (m *Member) UpstreamError() error {
	other := map[string]string{"real": "simulated", "simulated": "real"}
	return &UpstreamError{m.keys.Account, other[m.upstream], m.upstream}
}

// DeadAfter returns how long another process must have been silent to count as dead.
func (m *Member) DeadAfter() time.Duration { return m.cfg.DeadAfter }

// Unbroken returns for how long this process has reached Redis without a break or a
// step of a clock. Only after [Member.DeadAfter] may it hold others for dead.
func (m *Member) Unbroken() time.Duration { return m.clock.unbroken() }

// Expected returns what this process takes Redis' time for, in ms; 0 before its first
// heartbeat.
func (m *Member) Expected() int64 { return m.clock.expected() }

// UpstreamError says that the account is of the other kind.
type UpstreamError struct {
	Account string
	Has     string // real, simulated, or unknown: it may be real
	Asked   string
}

func (e *UpstreamError) Error() string {
	is := "is " + e.Has
	if e.Has == "unknown" {
		is = "may be real: a worker of an earlier version has joined it"
	}
	return fmt.Sprintf("account %q %s, and this process is %s; set KYCLINK_ACCOUNT to another name", e.Account, is, e.Asked)
}

// Fatal says that a worker that meets this error must end.
func (*UpstreamError) Fatal() bool { return true }

// EmptiedError says that Redis no longer has the ledger that this process joined.
type EmptiedError struct{ Account string }

func (e *EmptiedError) Error() string {
	return fmt.Sprintf("Redis has lost all data of account %q: it was emptied, or restarted without persistence; "+
		"requests that were accepted before are gone", e.Account)
}

// Emptied says that the process must join the account again.
func (*EmptiedError) Emptied() bool { return true }

// ID names this ledger: it is made up when it is first asked for, and another
// one where Redis was emptied since, or is another Redis. A Redis that was
// restored from a backup keeps it. It fails with [*UpstreamError] where the
// account is of the other kind.
func (m *Member) ID(ctx context.Context) (string, error) {
	reply, err := ledgerIDScript.Run(ctx, m.rdb, []string{m.keys.Tag()}, lua.Args{"new_id": uuid.NewString(), "kind": m.upstream}).StringSlice()
	if err != nil {
		return "", fmt.Errorf("read the ledger's id: %w", err)
	}
	if reply[0] == "upstream" {
		return "", &UpstreamError{m.keys.Account, reply[1], m.upstream}
	}
	return reply[1], nil
}

// Join registers this process as a worker under a number that no other one has,
// and puts its rate in force. It changes nothing and fails with [*UpstreamError]
// where the account is of the other kind. Call [Member.Heartbeat] every few seconds
// from then on, and Join again after an [*EmptiedError].
//
// The number is drawn, not counted: a Redis that lost its last writes would count
// on from an earlier one, and give a number that a living process has.
func (m *Member) Join(ctx context.Context) error {
	if m.cfg.Rate != (admission.Rate{}) && m.cfg.Burst < minBurst {
		return fmt.Errorf("a burst of %d is too small: bulk would have to leave the only token; give %d or more", m.cfg.Burst, minBurst)
	}
	for {
		number := rand.N(maxProcess) + 1
		reply, err := joinScript.Run(ctx, m.rdb, []string{m.keys.Tag()}, lua.Args{
			"process": number, "kind": m.upstream, "ledger_id": uuid.NewString(),
			"n": m.cfg.Rate.N, "per": m.cfg.Rate.Per.Milliseconds(), "burst": m.cfg.Burst,
		}).StringSlice()
		switch {
		case err != nil:
			return fmt.Errorf("register the worker: %w", err)
		case reply[0] == "upstream":
			return &UpstreamError{m.keys.Account, reply[1], m.upstream}
		case reply[0] == "joined":
			m.process.Store(number)
			m.joined.Store(&reply[1])
			m.lastHeartbeat.Store(&heartbeatResult{at: time.Now()})
			m.clock.join(time.Now())
			return m.compareRate(reply[2:])
		}
	}
}

// compareRate reports the rate that another worker had set, if it was another one.
func (m *Member) compareRate(before []string) error {
	var values [3]int
	for i, text := range before {
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("register the worker: the rate before: %w", err)
		}
		values[i] = n
	}
	rate, burst := admission.Rate{N: values[0], Per: time.Duration(values[1]) * time.Millisecond}, values[2]
	if burst > 0 && m.cfg.RateChanged != nil && (rate != m.cfg.Rate || burst != m.cfg.Burst) {
		m.cfg.RateChanged(rate, burst)
	}
	return nil
}

// Heartbeat records, by Redis' clock, that this process is alive and which turns it has
// handlers for. If it fails, this process may not hold others for dead for a while. It fails
// with [*EmptiedError] if the ledger that this process joined is gone.
func (m *Member) Heartbeat(ctx context.Context, handled []string) error {
	id := m.joined.Load()
	if id == nil {
		return errors.New("heartbeat: this process has not joined the account")
	}
	sent := time.Now()
	at, err := heartbeatScript.Run(ctx, m.rdb, []string{m.keys.Tag()}, lua.Args{
		"process": m.process.Load(), "forget_after": forgetAfter.Milliseconds(),
		"handlers_ttl": (m.cfg.DeadAfter + maxPause).Milliseconds(), "ledger_id": *id,
	}, lua.Column("turn", handled)).Int64()
	switch {
	case err != nil:
		err = fmt.Errorf("heartbeat: %w", err)
	case at == 0:
		err = &EmptiedError{m.keys.Account}
	}
	m.lastHeartbeat.Store(&heartbeatResult{time.Now(), err})
	if err != nil {
		m.clock.lose()
		return err
	}
	m.clock.heartbeat(sent, time.Now(), time.UnixMilli(at))
	return nil
}

// Leave deregisters this process, after its last attempt, so that another one may lead at
// once.
func (m *Member) Leave(ctx context.Context) error {
	return leaveScript.Run(ctx, m.rdb, []string{m.keys.Tag()}, lua.Args{"process": m.process.Load()}).Err()
}
