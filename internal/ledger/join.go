package ledger

import (
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
	maxProcess = int64(999_999) // what a record's header has room for
	forgetDead = time.Hour      // after which a process that died is taken off the list
	// mostBetween is the most that may be between heartbeats of a process that
	// judges others: more than a beat that takes its time, and less than what
	// makes those dead.
	mostBetween = 8 * time.Second
	leastBurst  = 2 // bulk leaves one token to signups
)

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

// Emptied says that the account has to be joined again.
func (*EmptiedError) Emptied() bool { return true }

// ID names this ledger: it is made up when it is first asked for, and another
// one where Redis was emptied since, or is another Redis. A Redis that was
// restored from a backup keeps it. It fails with [*UpstreamError] where the
// account is of the other kind.
func (l *Ledger) ID(ctx context.Context) (string, error) {
	reply, err := ledgerIDScript.Run(ctx, l.rdb, []string{l.keys.Tag()}, lua.Args{"new_id": uuid.NewString(), "kind": l.upstream}).StringSlice()
	if err != nil {
		return "", fmt.Errorf("read the ledger's id: %w", err)
	}
	if reply[0] == "upstream" {
		return "", &UpstreamError{l.keys.Account, reply[1], l.upstream}
	}
	return reply[1], nil
}

// Join registers this process as a worker under a number that no other one has,
// and puts its rate in force. It changes nothing and fails with [*UpstreamError]
// where the account is of the other kind. Call [Ledger.Beat] every few seconds
// from then on, and Join again after an [*EmptiedError].
//
// The number is drawn, not counted: a Redis that lost its last writes would count
// on from an earlier one, and give a number that a living process has.
func (l *Ledger) Join(ctx context.Context) error {
	if l.cfg.Rate != (admission.Rate{}) && l.cfg.Burst < leastBurst {
		return fmt.Errorf("a burst of %d is too small: bulk would have to leave the only token; give %d or more", l.cfg.Burst, leastBurst)
	}
	for {
		number := rand.N(maxProcess) + 1
		reply, err := joinScript.Run(ctx, l.rdb, []string{l.keys.Tag()}, lua.Args{
			"process": number, "kind": l.upstream, "ledger_id": uuid.NewString(),
			"n": l.cfg.Rate.N, "per": l.cfg.Rate.Per.Milliseconds(), "burst": l.cfg.Burst,
		}).StringSlice()
		switch {
		case err != nil:
			return fmt.Errorf("register the worker: %w", err)
		case reply[0] == "upstream":
			return &UpstreamError{l.keys.Account, reply[1], l.upstream}
		case reply[0] == "joined":
			l.process.Store(number)
			l.joined.Store(&reply[1])
			l.written.Store(&written{at: time.Now()})
			l.clock.join(time.Now())
			return l.compareRate(reply[2:])
		}
	}
}

// compareRate reports the rate that another worker had set, if it was another one.
func (l *Ledger) compareRate(before []string) error {
	var values [3]int
	for i, text := range before {
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("register the worker: the rate before: %w", err)
		}
		values[i] = n
	}
	rate, burst := admission.Rate{N: values[0], Per: time.Duration(values[1]) * time.Millisecond}, values[2]
	if burst > 0 && l.cfg.RateChanged != nil && (rate != l.cfg.Rate || burst != l.cfg.Burst) {
		l.cfg.RateChanged(rate, burst)
	}
	return nil
}

// Beat says that this process lives, by Redis' clock, and which tasks it has
// handlers for. A beat that fails breaks the time in which this process may judge
// others dead; it fails with [*EmptiedError] where the ledger that this process
// joined is gone.
func (l *Ledger) Beat(ctx context.Context, handled []string) error {
	id := l.joined.Load()
	if id == nil {
		return errors.New("heartbeat: this process has not joined the account")
	}
	sent := time.Now()
	at, err := heartbeatScript.Run(ctx, l.rdb, []string{l.keys.Tag()}, lua.Args{
		"process": l.process.Load(), "forget_after": forgetDead.Milliseconds(),
		"handlers_ttl": (l.cfg.DeadAfter + mostBetween).Milliseconds(), "ledger_id": *id,
	}, lua.Column("turn", handled)).Int64()
	switch {
	case err != nil:
		err = fmt.Errorf("heartbeat: %w", err)
	case at == 0:
		err = &EmptiedError{l.keys.Account}
	}
	l.written.Store(&written{time.Now(), err})
	if err != nil {
		l.clock.lose()
		return err
	}
	l.clock.beat(sent, time.Now(), time.UnixMilli(at))
	return nil
}

// Leave takes this process off the list of workers, after its last attempt, and
// lets another one lead at once.
func (l *Ledger) Leave(ctx context.Context) error {
	return leaveScript.Run(ctx, l.rdb, []string{l.keys.Tag()}, lua.Args{"process": l.process.Load()}).Err()
}
