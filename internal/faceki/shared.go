package faceki

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/lua"
)

var (
	claimTokenScript = scripts.Script("claim_token.lua")
	storeTokenScript = scripts.Script("store_token.lua")
	dropTokenScript  = scripts.Script("drop_token.lua")
)

const (
	// maxStanding is the longest time for which a fault may stand.
	maxStanding = max(maxRetryAfter, spacing)
	// unsentSpacing is how long the fault of a request that could not be sent
	// stands in the fleet: long enough for all who wait to get it, instead of
	// finding out one after the other.
	unsentSpacing = time.Second
)

// errSealed says that the token that is kept was not written by us, and is too
// young to be asked for again.
var errSealed = errors.New("the access token in Redis cannot be decrypted")

// Tokens keeps the token in Redis, for all processes of an account that have
// the same credentials for the same address. What is kept there is encrypted
// with a key that is made from the client secret; what cannot be decrypted
// counts as refused. All times are by Redis' clock.
type Tokens struct {
	rdb  redis.UniversalClient
	key  string
	seal seal
}

// NewTokens makes a store that uses, and does not close, rdb. cfg is the one
// that the client is made with.
func NewTokens(rdb redis.UniversalClient, keys keyspace.Keys, cfg Config) *Tokens {
	return &Tokens{
		rdb: rdb, key: keys.Token(cfg.Fingerprint()), seal: newSeal(cfg, "token"),
	}
}

// Format keeps what is inside out of every print.
func (t *Tokens) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("FaceKi tokens")) }

// Claim is [Store]'s.
func (t *Tokens) Claim(ctx context.Context, holder string, lease time.Duration) (Claim, error) {
	for range 2 {
		reply, err := claimTokenScript.Run(ctx, t.rdb, []string{t.key}, lua.Args{
			"holder": holder, "lease": lease.Milliseconds(), "max_fault_age": maxStanding.Milliseconds(),
		}).StringSlice()
		if err != nil {
			return Claim{}, fmt.Errorf("look for an access token: %w", err)
		}
		switch reply[0] {
		case "turn":
			return Claim{Turn: true}, nil
		case "due":
			due, err := milliseconds(reply[1])
			return Claim{Due: due}, err
		case "fault":
			age, err := milliseconds(reply[2])
			return Claim{Fault: readFault(reply[1], age)}, err
		case "token":
			left, err := milliseconds(reply[2])
			if token, ok := t.seal.open([]byte(reply[1]), t.key); ok {
				return Claim{Token: token, Left: left}, err
			}
			if kept, err := t.dropSealed(ctx, reply[1], spacing); kept || err != nil {
				return Claim{}, errors.Join(errSealed, err)
			}
		default: // another one is asking
			return Claim{}, nil
		}
	}
	return Claim{}, errSealed
}

func milliseconds(text string) (time.Duration, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	return time.Duration(n) * time.Millisecond, err
}

// Land is [Store]'s.
func (t *Tokens) Land(ctx context.Context, holder string, got Claim) error {
	what, text, left := "token", []byte(nil), got.Left
	switch {
	case got.Token != "":
		text = t.seal.close(got.Token, t.key)
	case got.Fault != nil:
		what, text = "fault", writeFault(got.Fault)
		if neverSent(got.Fault) {
			left = unsentSpacing
		}
	}
	err := storeTokenScript.Run(ctx, t.rdb, []string{t.key}, lua.Args{
		"holder": holder, "kind": what, "value": text, "lifetime": max(left.Milliseconds(), 0),
	}).Err()
	if err != nil {
		return fmt.Errorf("keep the access token: %w", err)
	}
	return nil
}

// Drop is [Store]'s.
func (t *Tokens) Drop(ctx context.Context, token Secret, spacing time.Duration) (kept bool, err error) {
	sealed, err := t.rdb.HGet(ctx, t.key, "token").Result()
	if errors.Is(err, redis.Nil) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("drop the access token: %w", err)
	}
	// Every sealing is another text, so that the one of this token is looked up.
	if current, ok := t.seal.open([]byte(sealed), t.key); !ok || current != token {
		return false, nil
	}
	return t.dropSealed(ctx, sealed, spacing)
}

// Accepted is [Store]'s.
func (t *Tokens) Accepted(ctx context.Context, token Secret) error {
	kept, err := t.rdb.HMGet(ctx, t.key, "token", "replaces").Result()
	if err != nil {
		return fmt.Errorf("look for an access token: %w", err)
	}
	sealed, _ := kept[0].(string)
	if current, ok := t.seal.open([]byte(sealed), t.key); !ok || current != token || kept[1] == nil {
		return nil
	}
	if err := t.rdb.HDel(ctx, t.key, "replaces").Err(); err != nil {
		return fmt.Errorf("keep that the access token is good: %w", err)
	}
	return nil
}

func (t *Tokens) dropSealed(ctx context.Context, sealed string, spacing time.Duration) (kept bool, err error) {
	kept, err = dropTokenScript.Run(ctx, t.rdb, []string{t.key}, lua.Args{"token": sealed, "spacing": spacing.Milliseconds()}).Bool()
	if err != nil {
		return false, fmt.Errorf("drop the access token: %w", err)
	}
	return kept, nil
}

// keptFault is a fault as other processes, of other versions too, read it.
type keptFault struct {
	Kind       string `json:"kind"`
	Detail     string `json:"detail"`
	RetryAfter int64  `json:"retry_after"` // ms
}

// keptKinds are those that a request for a token may end with.
func keptKinds() map[string]fault.Kind {
	return map[string]fault.Kind{
		"unauthorized": fault.Unauthorized, "credit_gone": fault.CreditGone, "limit_gone": fault.LimitGone,
		"account_rules": fault.AccountRules, "too_many": fault.TooMany, "token_unavailable": fault.TokenUnavailable,
		"not_sent": fault.NotSent, "connect_timeout": fault.ConnectTimeout, "not_faceki": fault.NotFaceKi,
	}
}

func writeFault(f *fault.Fault) []byte {
	kept := keptFault{Kind: "token_unavailable", Detail: f.Detail, RetryAfter: f.RetryAfter.Milliseconds()}
	for name, kind := range keptKinds() {
		if kind == f.Kind {
			kept.Kind = name
		}
	}
	text, _ := json.Marshal(kept) // strings and a number
	return text
}

// readFault reads what another process wrote, age after it began to ask.
func readFault(text string, age time.Duration) *fault.Fault {
	var kept keptFault
	_ = json.Unmarshal([]byte(text), &kept) // what cannot be read stands all the same
	kind, known := keptKinds()[kept.Kind]
	if !known {
		kind = fault.TokenUnavailable
	}
	f := &fault.Fault{Kind: kind, Detail: kept.Detail, RetryAfter: time.Duration(kept.RetryAfter) * time.Millisecond}
	return repeated(f, f.RetryAfter-age)
}
