package api

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
	"unicode/utf8"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/singleflight"

	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/legible"
)

const (
	keyPrefix  = "kyclink_" // by which scanners find a key that leaked
	idBytes    = 6
	keyBytes   = 32
	maxKeyName = 64
	// trusted is how long a process goes by what it knows of a key: a revoked one
	// is let in for so long at most.
	trusted = 2 * time.Second
)

// Issued is a key as it is kept: what is known of it, and not the key itself.
type Issued struct {
	ID     string  `json:"id"`
	Name   string  `json:"name"`
	Scopes []Scope `json:"scopes"`
	// RedirectHosts are the hosts that a redirect_url may lead to; any where there is
	// none.
	RedirectHosts []string  `json:"redirect_hosts,omitempty"`
	CreatedAt     time.Time `json:"created_at"`
	RevokedAt     time.Time `json:"revoked_at,omitzero"`
}

// stored is the value in Redis.
type stored struct {
	Issued
	// Hash is the SHA-256 of the whole key, in hex. That is enough: a slow hash is
	// for what people think up, and can be guessed. A key is 256 random bits, which
	// nobody finds by trying, and a fast hash is what every request can afford.
	Hash string `json:"hash"`
}

// Keyring is the API keys of an account, kept in Redis. It is safe for concurrent
// use.
type Keyring struct {
	rdb   redis.UniversalClient
	key   string
	now   func() time.Time
	reads singleflight.Group // of thousands of requests with one key, one asks
	mu    sync.Mutex
	seen  map[string]sighting
}

// sighting is a key as this process saw it last.
type sighting struct {
	stored
	at time.Time
}

// NewKeyring makes a keyring that uses, and does not close, rdb.
func NewKeyring(rdb redis.UniversalClient, account string) *Keyring {
	return &Keyring{rdb: rdb, key: keyspace.Keys{Account: account}.APIKeys(), now: time.Now, seen: map[string]sighting{}}
}

// Create makes a key. The key itself is given here, and never again.
func (k *Keyring) Create(ctx context.Context, name string, scopes []Scope, redirectHosts ...string) (key string, issued Issued, err error) {
	if err := CheckKey(name, scopes); err != nil {
		return "", issued, err
	}
	// Each once, in the order in which they are documented.
	scopes = slices.DeleteFunc(Scopes(), func(s Scope) bool { return !slices.Contains(scopes, s) })
	for {
		id := hex.EncodeToString(random(idBytes))
		key = keyPrefix + id + "_" + base64.RawURLEncoding.EncodeToString(random(keyBytes))
		s := stored{Issued: Issued{ID: id, Name: name, Scopes: scopes, RedirectHosts: redirectHosts, CreatedAt: k.now().UTC().Truncate(time.Second)}, Hash: hashed(key)}
		value, err := json.Marshal(s)
		if err != nil {
			return "", issued, fmt.Errorf("encode the key %s: %w", id, err)
		}
		free, err := k.rdb.HSetNX(ctx, k.key, id, value).Result()
		if err != nil {
			return "", issued, fmt.Errorf("keep the key: %w", err)
		}
		if free {
			return key, s.Issued, nil
		}
	}
}

// CheckKey says why there can be no such key.
func CheckKey(name string, scopes []Scope) error {
	if problem := legible.WrongName(name, 4*maxKeyName); problem != "" {
		return fmt.Errorf("a key's name has 1 to %d printable characters, but %+q %s", maxKeyName, legible.Shorten(name), problem)
	}
	if utf8.RuneCountInString(name) > maxKeyName {
		return fmt.Errorf("a key's name has 1 to %d printable characters, unlike %+q", maxKeyName, name)
	}
	if len(scopes) == 0 {
		return fmt.Errorf("a key without a scope is good for nothing; the scopes are %s", ScopeList(Scopes()))
	}
	for _, s := range scopes {
		if !slices.Contains(Scopes(), s) {
			return fmt.Errorf("there is no scope %q; the scopes are %s", s, ScopeList(Scopes()))
		}
	}
	return nil
}

// ScopeList gives scopes as people write them.
func ScopeList(scopes []Scope) string {
	texts := make([]string, len(scopes))
	for i, s := range scopes {
		texts[i] = string(s)
	}
	return strings.Join(texts, ",")
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // it never fails
	return b
}

func hashed(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

// Verify is [Keys]' Verify. It goes by what this process learned of a key within
// the last two seconds; a key that it does not know it always asks Redis for.
func (k *Keyring) Verify(ctx context.Context, presented string) (Key, error) {
	id, _, ok := strings.Cut(strings.TrimPrefix(presented, keyPrefix), "_")
	if raw, err := hex.DecodeString(id); !ok || !strings.HasPrefix(presented, keyPrefix) || err != nil || len(raw) != idBytes {
		return Key{}, &RefusedKey{Problem: KeyMalformed}
	}
	s, err := k.look(ctx, id)
	switch {
	case errors.Is(err, ErrUnknownKey):
		return Key{}, &RefusedKey{KeyUnknown, id}
	case err != nil:
		return Key{}, err
	case subtle.ConstantTimeCompare([]byte(hashed(presented)), []byte(s.Hash)) != 1:
		return Key{}, &RefusedKey{KeyUnknown, id}
	case !s.RevokedAt.IsZero():
		return Key{}, &RefusedKey{KeyRevoked, id}
	}
	return Key{ID: s.ID, Name: s.Name, Scopes: s.Scopes, RedirectHosts: s.RedirectHosts}, nil
}

func (k *Keyring) look(ctx context.Context, id string) (stored, error) {
	k.mu.Lock()
	known, ok := k.seen[id]
	k.mu.Unlock()
	if age := k.now().Sub(known.at); ok && age >= 0 && age < trusted {
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

// refresh reads a key, and learns what it is.
func (k *Keyring) refresh(ctx context.Context, id string) (stored, error) {
	asked := k.now()
	s, err := k.read(ctx, id)
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case errors.Is(err, ErrUnknownKey):
		delete(k.seen, id)
	case err == nil:
		k.seen[id] = sighting{s, asked}
	}
	return s, err
}

func (k *Keyring) read(ctx context.Context, id string) (s stored, err error) {
	value, err := k.rdb.HGet(ctx, k.key, id).Bytes()
	if errors.Is(err, redis.Nil) {
		return s, ErrUnknownKey
	}
	if err == nil {
		err = json.Unmarshal(value, &s)
	}
	if err != nil {
		return s, fmt.Errorf("read the API key %s: %w", id, err)
	}
	return s, nil
}

// List gives all keys, the oldest first; revoked ones as well, as the audit trail
// names them.
func (k *Keyring) List(ctx context.Context) ([]Issued, error) {
	values, err := k.rdb.HGetAll(ctx, k.key).Result()
	if err != nil {
		return nil, fmt.Errorf("read the API keys: %w", err)
	}
	issued := make([]Issued, 0, len(values))
	for id, value := range values {
		var s stored
		if err := json.Unmarshal([]byte(value), &s); err != nil {
			return nil, fmt.Errorf("read the API key %s: %w", id, err)
		}
		issued = append(issued, s.Issued)
	}
	slices.SortFunc(issued, func(a, b Issued) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), strings.Compare(a.ID, b.ID))
	})
	return issued, nil
}

// Revoke ends a key: every process refuses it within two seconds. [ErrUnknownKey]
// says that there is none, or that it was revoked before.
func (k *Keyring) Revoke(ctx context.Context, id string) (Issued, error) {
	s, err := k.read(ctx, id)
	if err != nil {
		return Issued{}, err
	}
	if !s.RevokedAt.IsZero() {
		return s.Issued, ErrUnknownKey
	}
	// Nothing of a key ever changes but this, so that nothing is overwritten.
	s.RevokedAt = k.now().UTC().Truncate(time.Second)
	value, err := json.Marshal(s)
	if err == nil {
		err = k.rdb.HSet(ctx, k.key, id, value).Err()
	}
	if err != nil {
		return Issued{}, fmt.Errorf("revoke the key %s: %w", id, err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.seen, id)
	return s.Issued, nil
}
