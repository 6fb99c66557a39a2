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
	// maxFaultAge is how long a stored fault may be reused.
	maxFaultAge = max(maxRetryAfter, spacing)
	// unsentSpacing is how long the fault of a request that could not be sent is reused:
	// long enough for all waiting processes to read it, instead of failing one by one.
	unsentSpacing = time.Second
)

// errUndecryptable means that the stored token was encrypted with another key, and that it
// is too new to be replaced.
var errUndecryptable = errors.New("the access token in Redis cannot be decrypted")

// Tokens stores the token in Redis, for all processes of an account with the same
// credentials and base URL. It is encrypted with a key derived from the client secret. A
// token that cannot be decrypted counts as refused. All times are on Redis' clock.
type Tokens struct {
	rdb  redis.UniversalClient
	key  string
	seal seal
}

// NewTokens returns a store that uses rdb and does not close it. cfg is the configuration
// of the client.
func NewTokens(rdb redis.UniversalClient, keys keyspace.Keys, cfg Config) *Tokens {
	return &Tokens{
		rdb: rdb, key: keys.Token(cfg.Fingerprint()), seal: newSeal(cfg, "token"),
	}
}

// Format hides the content from every print.
func (t *Tokens) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("FaceKi tokens")) }

// Acquire implements [Store].
func (t *Tokens) Acquire(ctx context.Context, holder string, lease time.Duration) (TokenState, error) {
	for range 2 {
		reply, err := claimTokenScript.Run(ctx, t.rdb, []string{t.key}, lua.Args{
			"holder": holder, "lease": lease.Milliseconds(), "max_fault_age": maxFaultAge.Milliseconds(),
		}).StringSlice()
		if err != nil {
			return TokenState{}, fmt.Errorf("read the access token: %w", err)
		}
		switch reply[0] {
		case "lease":
			return TokenState{Refresh: true}, nil
		case "due":
			due, err := milliseconds(reply[1])
			return TokenState{NotBefore: due}, err
		case "fault":
			age, err := milliseconds(reply[2])
			return TokenState{Fault: decodeFault(reply[1], age)}, err
		case "token":
			left, err := milliseconds(reply[2])
			if token, ok := t.seal.decrypt([]byte(reply[1]), t.key); ok {
				return TokenState{Token: token, ValidFor: left}, err
			}
			if kept, err := t.discardEncrypted(ctx, reply[1], spacing); kept || err != nil {
				return TokenState{}, errors.Join(errUndecryptable, err)
			}
		default: // another process has the lease
			return TokenState{}, nil
		}
	}
	return TokenState{}, errUndecryptable
}

func milliseconds(text string) (time.Duration, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	return time.Duration(n) * time.Millisecond, err
}

// Release implements [Store].
func (t *Tokens) Release(ctx context.Context, holder string, got TokenState) error {
	what, text, left := "token", []byte(nil), got.ValidFor
	switch {
	case got.Token != "":
		text = t.seal.encrypt(got.Token, t.key)
	case got.Fault != nil:
		what, text = "fault", encodeFault(got.Fault)
		if neverSent(got.Fault) {
			left = unsentSpacing
		}
	}
	err := storeTokenScript.Run(ctx, t.rdb, []string{t.key}, lua.Args{
		"holder": holder, "kind": what, "value": text, "lifetime": max(left.Milliseconds(), 0),
	}).Err()
	if err != nil {
		return fmt.Errorf("store the access token: %w", err)
	}
	return nil
}

// Discard implements [Store].
func (t *Tokens) Discard(ctx context.Context, token Secret, spacing time.Duration) (kept bool, err error) {
	encrypted, err := t.rdb.HGet(ctx, t.key, "token").Result()
	if errors.Is(err, redis.Nil) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("discard the access token: %w", err)
	}
	// Each encryption of a token gives another text, so compare the decrypted tokens.
	if current, ok := t.seal.decrypt([]byte(encrypted), t.key); !ok || current != token {
		return false, nil
	}
	return t.discardEncrypted(ctx, encrypted, spacing)
}

// MarkAccepted implements [Store].
func (t *Tokens) MarkAccepted(ctx context.Context, token Secret) error {
	kept, err := t.rdb.HMGet(ctx, t.key, "token", "replaces").Result()
	if err != nil {
		return fmt.Errorf("read the access token: %w", err)
	}
	encrypted, _ := kept[0].(string)
	if current, ok := t.seal.decrypt([]byte(encrypted), t.key); !ok || current != token || kept[1] == nil {
		return nil
	}
	if err := t.rdb.HDel(ctx, t.key, "replaces").Err(); err != nil {
		return fmt.Errorf("mark the access token as accepted: %w", err)
	}
	return nil
}

func (t *Tokens) discardEncrypted(ctx context.Context, encrypted string, spacing time.Duration) (kept bool, err error) {
	kept, err = dropTokenScript.Run(ctx, t.rdb, []string{t.key}, lua.Args{"token": encrypted, "spacing": spacing.Milliseconds()}).Bool()
	if err != nil {
		return false, fmt.Errorf("discard the access token: %w", err)
	}
	return kept, nil
}

// storedFault is the stored form of a fault, which other versions read as well.
type storedFault struct {
	Kind       string `json:"kind"`
	Detail     string `json:"detail"`
	RetryAfter int64  `json:"retry_after"` // ms
}

// storedKinds returns the kinds with which a request for a token may end.
func storedKinds() map[string]fault.Kind {
	return map[string]fault.Kind{
		"unauthorized": fault.Unauthorized, "credit_gone": fault.CreditGone, "limit_gone": fault.LimitGone,
		"account_rules": fault.AccountRules, "too_many": fault.TooMany, "token_unavailable": fault.TokenUnavailable,
		"not_sent": fault.NotSent, "connect_timeout": fault.ConnectTimeout, "not_faceki": fault.NotFaceKi,
	}
}

func encodeFault(f *fault.Fault) []byte {
	kept := storedFault{Kind: "token_unavailable", Detail: f.Detail, RetryAfter: f.RetryAfter.Milliseconds()}
	for name, kind := range storedKinds() {
		if kind == f.Kind {
			kept.Kind = name
		}
	}
	text, _ := json.Marshal(kept) // it cannot fail
	return text
}

// decodeFault reads a fault that another process stored. age is the time since the
// request for the token began.
func decodeFault(text string, age time.Duration) *fault.Fault {
	var kept storedFault
	_ = json.Unmarshal([]byte(text), &kept) // an undecodable fault counts as token_unavailable
	kind, known := storedKinds()[kept.Kind]
	if !known {
		kind = fault.TokenUnavailable
	}
	f := &fault.Fault{Kind: kind, Detail: kept.Detail, RetryAfter: time.Duration(kept.RetryAfter) * time.Millisecond}
	return copyFault(f, f.RetryAfter-age)
}
