package console

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/keyspace"
)

const (
	idleTimeout     = time.Hour      // without a page that a person opened
	absoluteTimeout = 12 * time.Hour // since the sign-in

	// The prefix makes browsers refuse the cookie unless it is secure and of this host. They
	// refuse it on plain HTTP, which is possible on loopback addresses only.
	secureCookie = "__Host-kyclink"
	plainCookie  = "kyclink"
)

// session is a browser that is signed in.
type session struct {
	token string
	key   apikey.Key
}

// stored is a session in Redis. The token is not in it, and its key is named by a hash of
// the token.
type stored struct {
	KeyID string `json:"key"`
	// Epoch is how often the key had been signed out everywhere; another one ends the session.
	Epoch   int64     `json:"epoch"`
	Started time.Time `json:"started"`
}

// sessions are the sessions of an account, in Redis.
type sessions struct {
	rdb            redis.UniversalClient
	keys           keyspace.Keys
	now            func() time.Time
	idle, absolute time.Duration
}

func newSessions(rdb redis.UniversalClient, keys keyspace.Keys) *sessions {
	return &sessions{rdb, keys, time.Now, idleTimeout, absoluteTimeout}
}

func (s *sessions) key(token string) string {
	sum := sha256.Sum256([]byte(token))
	return s.keys.Session(hex.EncodeToString(sum[:]))
}

// start begins a session and returns its token.
func (s *sessions) start(ctx context.Context, keyID string) (token string, err error) {
	epoch, err := s.epoch(ctx, keyID)
	if err != nil {
		return "", err
	}
	value, err := json.Marshal(stored{keyID, epoch, s.now().UTC()})
	if err != nil {
		return "", fmt.Errorf("encode a session: %w", err)
	}
	token = rand.Text()
	if err := s.rdb.Set(ctx, s.key(token), value, s.idle).Err(); err != nil {
		return "", fmt.Errorf("store a session: %w", err)
	}
	return token, nil
}

func (s *sessions) epoch(ctx context.Context, keyID string) (int64, error) {
	n, err := s.rdb.HGet(ctx, s.keys.SessionEpochs(), keyID).Int64()
	if err != nil && !errors.Is(err, redis.Nil) {
		return 0, fmt.Errorf("read the sessions: %w", err)
	}
	return n, nil
}

// get returns the session of a request; the zero value if there is none, or it has ended.
// With extend, it lasts for another idle timeout.
func (s *sessions) get(ctx context.Context, keys *apikey.Keyring, r *http.Request, extend bool) (session, error) {
	token := cookieOf(r)
	if token == "" {
		return session{}, nil
	}
	read := s.rdb.Get
	if extend {
		read = func(ctx context.Context, key string) *redis.StringCmd { return s.rdb.GetEx(ctx, key, s.idle) }
	}
	value, err := read(ctx, s.key(token)).Bytes()
	if errors.Is(err, redis.Nil) {
		return session{}, nil
	}
	var have stored
	if err == nil {
		err = json.Unmarshal(value, &have)
	}
	if err != nil {
		return session{}, fmt.Errorf("read a session: %w", err)
	}
	epoch, err := s.epoch(ctx, have.KeyID)
	if err != nil {
		return session{}, err
	}
	if epoch != have.Epoch || s.now().Sub(have.Started) >= s.absolute {
		return session{}, s.end(ctx, token)
	}
	key, err := keys.Find(ctx, have.KeyID)
	if errors.Is(err, apikey.ErrUnknown) {
		return session{}, s.end(ctx, token)
	}
	return session{token, key}, err
}

// end ends a session.
func (s *sessions) end(ctx context.Context, token string) error {
	if err := s.rdb.Del(ctx, s.key(token)).Err(); err != nil {
		return fmt.Errorf("end a session: %w", err)
	}
	return nil
}

// endAll ends all sessions of a key.
func (s *sessions) endAll(ctx context.Context, keyID string) error {
	if err := s.rdb.HIncrBy(ctx, s.keys.SessionEpochs(), keyID, 1).Err(); err != nil {
		return fmt.Errorf("end the sessions of a key: %w", err)
	}
	return nil
}

// cookieOf returns the token of a request, or "".
func cookieOf(r *http.Request) string {
	name := secureCookie
	if !secure(r) {
		name = plainCookie
	}
	if cookie, err := r.Cookie(name); err == nil {
		return cookie.Value
	}
	return ""
}

// setCookie stores a token in the browser, or removes it if the token is empty.
func setCookie(w http.ResponseWriter, r *http.Request, token string) {
	cookie := &http.Cookie{ //nolint:gosec // it is secure except on plain HTTP to a loopback address
		Name: secureCookie, Value: token, Path: "/", HttpOnly: true, Secure: secure(r), SameSite: http.SameSiteStrictMode,
	}
	if !cookie.Secure {
		cookie.Name = plainCookie
	}
	if token == "" {
		cookie.MaxAge = -1
	}
	http.SetCookie(w, cookie)
}

// secure reports whether the browser must keep the cookie for encrypted connections. That is
// so unless it reaches a loopback address; a proxy that uses TLS may hide its name from us.
func secure(r *http.Request) bool {
	if r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https" {
		return true
	}
	return !isLoopback(r.Host)
}

func isLoopback(host string) bool {
	name := (&url.URL{Host: host}).Hostname()
	ip := net.ParseIP(name)
	return name == "localhost" || strings.HasSuffix(name, ".localhost") || ip != nil && ip.IsLoopback()
}
