package admission

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/lua"
)

// Account is the gate and the rate of one account, for an operator. It is safe for
// concurrent use.
type Account struct {
	rdb  redis.UniversalClient
	keys keyspace.Keys
}

// NewAccount returns an account that uses rdb and does not close it.
func NewAccount(rdb redis.UniversalClient, account string) *Account {
	return &Account{rdb, keyspace.Keys{Account: account}}
}

// MaxPauseReason is the size in bytes that the reason of a pause may have.
const MaxPauseReason = 200

// Pause closes the gate until [Account.Resume]. Calls that are granted or in flight are
// completed. The status shows by whom it was closed, and why; the reason may be empty. A
// further pause replaces both.
func (a *Account) Pause(ctx context.Context, by, reason string) error {
	return a.do(ctx, "pause", pauseScript, lua.Args{"by": by, "why": reason})
}

// Resume ends a pause. If the gate is closed for another reason, the next call probes at
// once, and the pauses between probes start short again.
func (a *Account) Resume(ctx context.Context) error { return a.do(ctx, "resume", resumeScript, nil) }

func (a *Account) do(ctx context.Context, verb string, script *lua.Script, args lua.Args) error {
	if err := script.Run(ctx, a.rdb, []string{a.keys.Tag()}, args).Err(); err != nil {
		return fmt.Errorf("%s the account: %w", verb, err)
	}
	return nil
}

// MaxBurst is the largest burst of an operator's rate, and MinBurst the smallest: bulk calls
// leave one token for interactive ones.
const (
	MinBurst = 2
	MaxBurst = maxN
)

// OverrideRate sets an operator's rate for the whole running fleet, until
// [Account.ResetRate]. The burst is from [MinBurst] to [MaxBurst], or 0 for that of the
// workers. It returns the rate before.
func (a *Account) OverrideRate(ctx context.Context, rate Rate, burst int) (Rate, error) {
	return a.change(ctx, overrideRateScript, lua.Args{"n": rate.N, "per": rate.Per.Milliseconds(), "burst": burst})
}

// ResetRate puts the workers' rate and burst in force again. It returns the rate before.
func (a *Account) ResetRate(ctx context.Context) (Rate, error) {
	return a.change(ctx, resetRateScript, nil)
}

func (a *Account) change(ctx context.Context, script *lua.Script, args lua.Args) (Rate, error) {
	old, err := script.Run(ctx, a.rdb, []string{a.keys.Tag()}, args).Int64Slice()
	if err != nil {
		return Rate{}, fmt.Errorf("change the rate: %w", err)
	}
	return Rate{int(old[0]), time.Duration(old[1]) * time.Millisecond}, nil
}
