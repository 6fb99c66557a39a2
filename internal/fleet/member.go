// Package fleet maintains the list of an account's worker processes: it registers and
// deregisters a process, records its heartbeats, and determines which processes are alive.
package fleet

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/lua"
)

var (
	heartbeatScript = scripts.Script("heartbeat.lua")
	joinScript      = scripts.Script("join.lua")
	leaveScript     = scripts.Script("leave.lua")
	ledgerIDScript  = scripts.Script("ledger_id.lua")
)

const (
	maxProcess  = int64(999_999) // the largest number that fits into a record's header
	forgetAfter = time.Hour      // after which a dead process is removed from the list
	// maxPause is the longest pause between two heartbeats that does not count as an
	// interruption: longer than a slow heartbeat, and shorter than DeadAfter.
	maxPause = 8 * time.Second
)

// DeadAfter is the time without a heartbeat after which a worker process counts as dead. The
// process that checks this must itself have reached Redis without interruption for as long.
const DeadAfter = 15 * time.Second

// Config describes a process of the fleet.
type Config struct {
	// Account is the namespace of one FaceKi account.
	Account string
	// Simulated says that links come from a simulator. An account is real or
	// simulated from its first worker on.
	Simulated bool
	// Rate and Burst are set by [Member.Join]; a zero Rate does not change those of the
	// account.
	Rate  admission.Rate
	Burst int
	// RateChanged is called when [Member.Join] has replaced a different rate of another
	// worker; it may be nil.
	RateChanged func(from admission.Rate, fromBurst int)
	// DeadAfter replaces [DeadAfter] if it is not 0.
	DeadAfter time.Duration
}

// Member is this process as a member of the fleet. It is safe for concurrent use.
type Member struct {
	rdb      redis.UniversalClient
	keys     keyspace.Keys
	cfg      Config
	upstream string
	clock    *clock

	process       atomic.Int64           // this process' number, 0 before Join
	joined        atomic.Pointer[string] // id of the ledger that the process joined
	clientLedger  atomic.Pointer[string] // id of the ledger at the latest [Member.ClientHeartbeat]
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

// Upstream returns the kind of this process' links: real or simulated.
func (m *Member) Upstream() string { return m.upstream }

// UpstreamError returns the error for an account of the other kind.
func (m *Member) UpstreamError() error {
	other := map[string]string{"real": "simulated", "simulated": "real"}
	return &UpstreamError{m.keys.Account, other[m.upstream], m.upstream}
}

// DeadAfter returns the time without a heartbeat after which a process counts as dead.
func (m *Member) DeadAfter() time.Duration { return m.cfg.DeadAfter }

// Unbroken returns for how long this process has reached Redis without an interruption or a
// clock step. It must be at least [Member.DeadAfter] before other processes count as dead.
func (m *Member) Unbroken() time.Duration { return m.clock.unbroken() }

// Expected returns the time that Redis' clock should show now, in ms; 0 before the first
// heartbeat.
func (m *Member) Expected() int64 { return m.clock.expected() }

// UpstreamError reports that the account is of the other kind.
type UpstreamError struct {
	Account string
	Has     string // real, simulated, or unknown (perhaps real)
	Asked   string
}

func (e *UpstreamError) Error() string {
	is := "is " + e.Has
	if e.Has == "unknown" {
		is = "may be real: a worker of an earlier version has joined it"
	}
	return fmt.Sprintf("account %q %s, and this process is %s; give it another name, in KYCLINK_ACCOUNT or as the file in KYCLINK_ACCOUNTS", e.Account, is, e.Asked)
}

// Fatal reports that a worker with this error must exit.
func (*UpstreamError) Fatal() bool { return true }

// EmptiedError reports that Redis no longer has the ledger that this process joined.
type EmptiedError struct{ Account string }

func (e *EmptiedError) Error() string {
	return fmt.Sprintf("Redis has lost all data of account %q: it was emptied, or restarted without persistence; "+
		"requests that were accepted before are gone", e.Account)
}

// Emptied reports that the process must join the account again.
func (*EmptiedError) Emptied() bool { return true }

// ID returns the ledger's id, a random one that is created at first use. It changes when
// Redis was emptied or replaced, and is kept when Redis was restored from a backup. ID fails
// with [*UpstreamError] if the account is of the other kind.
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

// Join registers this process as a worker under a unique number, and sets the account's rate.
// If the account is of the other kind, it changes nothing and fails with [*UpstreamError].
// Call [Member.Heartbeat] every few seconds afterwards, and Join again after an
// [*EmptiedError].
//
// The number is random: a counter in a Redis that lost its last writes could return the
// number of a live process.
func (m *Member) Join(ctx context.Context) error {
	if m.cfg.Rate != (admission.Rate{}) && m.cfg.Burst < admission.MinBurst {
		return fmt.Errorf("a burst of %d is too small, since bulk calls always leave one token; set %d or more", m.cfg.Burst, admission.MinBurst)
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

// compareRate reports the previous rate of another worker, if it differs.
func (m *Member) compareRate(before []string) error {
	var values [3]int
	for i, text := range before {
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("register the worker: parse the previous rate: %w", err)
		}
		values[i] = n
	}
	rate, burst := admission.Rate{N: values[0], Per: time.Duration(values[1]) * time.Millisecond}, values[2]
	if burst > 0 && m.cfg.RateChanged != nil && (rate != m.cfg.Rate || burst != m.cfg.Burst) {
		m.cfg.RateChanged(rate, burst)
	}
	return nil
}

// Heartbeat records that this process is alive, and the turns that it has handlers for. After
// a failure, no other process counts as dead for a while. It fails with [*EmptiedError] if
// Redis no longer has the ledger that this process joined.
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

// Leave deregisters this process after its last attempt, so that another one can take over
// the feeding at once.
func (m *Member) Leave(ctx context.Context) error {
	return leaveScript.Run(ctx, m.rdb, []string{m.keys.Tag()}, lua.Args{"process": m.process.Load()}).Err()
}
