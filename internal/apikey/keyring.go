package apikey

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/singleflight"

	"github.com/kyclink/kyclink/internal/keyspace"
)

const (
	keyPrefix = "kyclink_" // lets secret scanners recognize a leaked key
	idBytes   = 6
	keyBytes  = 32
	// cacheTime is how long a process uses a key from its cache, and so how long it may
	// accept a revoked key.
	cacheTime = 2 * time.Second
)

// Issued is a key as it is stored, without its secret.
type Issued struct {
	ID     string  `json:"id"`
	Name   string  `json:"name"`
	Scopes []Scope `json:"scopes"`
	// RedirectHosts are the hosts that a redirect_url may name; every host if empty.
	RedirectHosts []string  `json:"redirect_hosts,omitempty"`
	CreatedAt     time.Time `json:"created_at"`
	RevokedAt     time.Time `json:"revoked_at,omitzero"`
}

// stored is the value in Redis.
type stored struct {
	Issued
	// Hash is the SHA-256 of the whole key, in hex. A slow password hash is not needed,
	// because a key has 256 random bits; a fast one is, because every request computes it.
	Hash string `json:"hash"`
}

// Keyring is the set of API keys of an account, in Redis. It is safe for concurrent use.
type Keyring struct {
	rdb   redis.UniversalClient
	key   string
	now   func() time.Time
	reads singleflight.Group // concurrent requests with one key share one read
	mu    sync.Mutex
	cache map[string]cached
}

// cached is a key as it was last read.
type cached struct {
	stored
	at time.Time
}

// NewKeyring returns a keyring that uses rdb and does not close it.
func NewKeyring(rdb redis.UniversalClient, account string) *Keyring {
	return &Keyring{rdb: rdb, key: keyspace.Keys{Account: account}.APIKeys(), now: time.Now, cache: map[string]cached{}}
}

// Create creates a key and returns it. It cannot be read again: only its hash is stored.
func (k *Keyring) Create(ctx context.Context, name string, scopes []Scope, redirectHosts ...string) (key string, issued Issued, err error) {
	if err := Check(name, scopes); err != nil {
		return "", issued, err
	}
	// Each scope once, in the order of the documentation.
	scopes = slices.DeleteFunc(Scopes(), func(s Scope) bool { return !slices.Contains(scopes, s) })
	for {
		id := hex.EncodeToString(random(idBytes))
		key = keyPrefix + id + "_" + base64.RawURLEncoding.EncodeToString(random(keyBytes))
		s := stored{Issued: Issued{ID: id, Name: name, Scopes: scopes, RedirectHosts: redirectHosts, CreatedAt: k.now().UTC().Truncate(time.Second)}, Hash: hash(key)}
		value, err := json.Marshal(s)
		if err != nil {
			return "", issued, fmt.Errorf("encode API key %s: %w", id, err)
		}
		unused, err := k.rdb.HSetNX(ctx, k.key, id, value).Result()
		if err != nil {
			return "", issued, fmt.Errorf("store the API key: %w", err)
		}
		if unused {
			return key, s.Issued, nil
		}
	}
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // it never fails
	return b
}

func hash(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

// Verify returns the key that was presented, or a [*RefusedError]. Other errors mean
// that Redis could not be read. Keys are cached for two seconds; unknown keys are not
// cached.
func (k *Keyring) Verify(ctx context.Context, presented string) (Key, error) {
	id, _, ok := strings.Cut(strings.TrimPrefix(presented, keyPrefix), "_")
	if raw, err := hex.DecodeString(id); !ok || !strings.HasPrefix(presented, keyPrefix) || err != nil || len(raw) != idBytes {
		return Key{}, &RefusedError{Reason: Malformed}
	}
	return k.valid(ctx, id, func(s stored) bool {
		return subtle.ConstantTimeCompare([]byte(hash(presented)), []byte(s.Hash)) == 1
	})
}

// Find returns a key by its ID, for sessions that were begun with the key. It fails as
// [Keyring.Verify] does.
func (k *Keyring) Find(ctx context.Context, id string) (Key, error) {
	return k.valid(ctx, id, func(stored) bool { return true })
}

// valid returns a key that matches and was not revoked.
func (k *Keyring) valid(ctx context.Context, id string, matches func(stored) bool) (Key, error) {
	s, err := k.get(ctx, id)
	switch {
	case errors.Is(err, ErrUnknown):
		return Key{}, &RefusedError{Unknown, id}
	case err != nil:
		return Key{}, err
	case !matches(s):
		return Key{}, &RefusedError{Unknown, id}
	case !s.RevokedAt.IsZero():
		return Key{}, &RefusedError{Revoked, id}
	}
	return Key{ID: s.ID, Name: s.Name, Scopes: s.Scopes, RedirectHosts: s.RedirectHosts}, nil
}

// get returns a key from the cache or from Redis.
func (k *Keyring) get(ctx context.Context, id string) (stored, error) {
	k.mu.Lock()
	known, ok := k.cache[id]
	k.mu.Unlock()
	if age := k.now().Sub(known.at); ok && age >= 0 && age < cacheTime {
		return known.stored, nil
	}
	select {
	case read := <-k.reads.DoChan(id, func() (any, error) { return k.refresh(context.WithoutCancel(ctx), id) }):
		s, _ := read.Val.(stored)
		return s, read.Err
	case <-ctx.Done():
		return stored{}, ctx.Err()
	}
}

// refresh reads a key and caches it.
func (k *Keyring) refresh(ctx context.Context, id string) (stored, error) {
	readAt := k.now()
	s, err := k.read(ctx, id)
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case errors.Is(err, ErrUnknown):
		delete(k.cache, id)
	case err == nil:
		k.cache[id] = cached{s, readAt}
	}
	return s, err
}

func (k *Keyring) read(ctx context.Context, id string) (s stored, err error) {
	value, err := k.rdb.HGet(ctx, k.key, id).Bytes()
	if errors.Is(err, redis.Nil) {
		return s, ErrUnknown
	}
	if err == nil {
		err = json.Unmarshal(value, &s)
	}
	if err != nil {
		return s, fmt.Errorf("read API key %s: %w", id, err)
	}
	return s, nil
}

// List returns all keys, the oldest first. It includes revoked keys, because the audit
// trail names them.
func (k *Keyring) List(ctx context.Context) ([]Issued, error) {
	values, err := k.rdb.HGetAll(ctx, k.key).Result()
	if err != nil {
		return nil, fmt.Errorf("read the API keys: %w", err)
	}
	issued := make([]Issued, 0, len(values))
	for id, value := range values {
		var s stored
		if err := json.Unmarshal([]byte(value), &s); err != nil {
			return nil, fmt.Errorf("read API key %s: %w", id, err)
		}
		issued = append(issued, s.Issued)
	}
	slices.SortFunc(issued, func(a, b Issued) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), strings.Compare(a.ID, b.ID))
	})
	return issued, nil
}

// Revoke revokes a key: every process refuses it within two seconds. It returns
// [ErrUnknown] if there is no such key, or if it was revoked before.
func (k *Keyring) Revoke(ctx context.Context, id string) (Issued, error) {
	s, err := k.read(ctx, id)
	if err != nil {
		return Issued{}, err
	}
	if !s.RevokedAt.IsZero() {
		return s.Issued, ErrUnknown
	}
	// Only RevokedAt of a key ever changes, so this overwrites no other change.
	s.RevokedAt = k.now().UTC().Truncate(time.Second)
	value, err := json.Marshal(s)
	if err == nil {
		err = k.rdb.HSet(ctx, k.key, id, value).Err()
	}
	if err != nil {
		return Issued{}, fmt.Errorf("revoke API key %s: %w", id, err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.cache, id)
	return s.Issued, nil
}
