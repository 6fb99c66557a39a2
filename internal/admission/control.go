package admission

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/lua"
	"github.com/kyclink/kyclink/internal/request"
)

// Account is the gate and the rate of one account, for a person. It is safe for
// concurrent use.
type Account struct {
	rdb  redis.UniversalClient
	keys keyspace.Keys

	pause, resume, override, reset *redis.Script
}

// NewAccount makes one that uses, and does not close, rdb.
func NewAccount(rdb redis.UniversalClient, account string) *Account {
	script := func(call string) *redis.Script { return lua.Script(call, request.Prelude, Lua) }
	return &Account{
		rdb: rdb, keys: keyspace.Keys{Account: account},
		pause:    script("pause() return 'ok'"),
		resume:   script("resume() return 'ok'"),
		override: script("return override_rate(ARGV[1], ARGV[2])"),
		reset:    script("return reset_rate()"),
	}
}

// Pause closes the gate until [Account.Resume], whatever happens. Calls that are
// out, or were granted already, go on.
func (a *Account) Pause(ctx context.Context) error { return a.do(ctx, "pause", a.pause) }

// Resume ends a pause, and lets the next ask of a gate that is closed for
// another reason probe at once, after which pauses are short again.
func (a *Account) Resume(ctx context.Context) error { return a.do(ctx, "resume", a.resume) }

func (a *Account) do(ctx context.Context, what string, script *redis.Script) error {
	if err := script.Run(ctx, a.rdb, []string{a.keys.Tag()}).Err(); err != nil {
		return fmt.Errorf("%s the account: %w", what, err)
	}
	return nil
}

// OverrideRate puts a person's rate in force for the whole running fleet, until
// [Account.ResetRate]. It gives what was in force before.
func (a *Account) OverrideRate(ctx context.Context, rate Rate) (Rate, error) {
	return a.change(ctx, a.override, rate.N, rate.Per.Milliseconds())
}

// ResetRate puts the workers' rate in force again. It gives what was before.
func (a *Account) ResetRate(ctx context.Context) (Rate, error) {
	return a.change(ctx, a.reset)
}

func (a *Account) change(ctx context.Context, script *redis.Script, args ...any) (Rate, error) {
	old, err := script.Run(ctx, a.rdb, []string{a.keys.Tag()}, args...).Int64Slice()
	if err != nil {
		return Rate{}, fmt.Errorf("change the rate: %w", err)
	}
	return Rate{int(old[0]), time.Duration(old[1]) * time.Millisecond}, nil
}
