package faceki

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/fault"
)

func TestFingerprint_DiffersByCredentialsAndBaseURL(t *testing.T) {
	seen := map[string]bool{}
	for _, change := range []func(*Config){func(*Config) {}, func(c *Config) { c.ClientID += "x" }, func(c *Config) { c.ClientSecret += "x" },
		func(c *Config) { c.BaseURL += "/x" }} {
		c := config()
		change(&c)
		if p := c.Fingerprint(); len(p) != 16 || p != c.Fingerprint() || seen[p] {
			t.Errorf("fingerprint %q is not 16 digits, not stable, or the same for another configuration", p)
		}
		seen[c.Fingerprint()] = true
	}
}

func TestTokens_AreEncryptedInRedis(t *testing.T) {
	f := newFleet(t, simulator.Config{})
	c := f.client(nil)
	create(t, c, 0)
	value := c.tokens.cached(time.Hour)
	key := f.keys.Token(f.cfg.Fingerprint())
	for _, key := range f.rdb.Keys(t.Context(), "*").Val() {
		dump := key + f.rdb.Dump(t.Context(), key).Val() + fmt.Sprint(f.rdb.HGetAll(t.Context(), key).Val())
		for _, leak := range []string{string(value), strings.TrimPrefix(string(value), "simulated-")[:8], string(f.cfg.ClientSecret), f.cfg.ClientID} {
			if strings.Contains(dump, leak) {
				t.Errorf("%s contains %q", key, leak)
			}
		}
	}
	if ttl := f.rdb.PTTL(t.Context(), key).Val(); ttl <= 0 || ttl > 3*time.Hour {
		t.Errorf("the token is kept for %v, want at most 3h", ttl)
	}

	sealed := []byte(f.rdb.HGet(t.Context(), key, "token").Val())
	other := f.cfg
	other.ClientSecret = "guessed"
	if _, ok := newSeal(other, "token").decrypt(sealed, key); ok {
		t.Error("another client secret decrypts the token")
	}
	if _, ok := newSeal(f.cfg, "token").decrypt(sealed, key+"x"); ok {
		t.Error("the token is decrypted for another key")
	}
	if got, ok := newSeal(f.cfg, "token").decrypt(sealed, key); !ok || got != value {
		t.Error("the token is not decrypted")
	}
	if printed := fmt.Sprintf("%v %+v %#v", c, c.tokens.store, c.tokens.store); strings.Contains(printed, string(value)) || strings.Contains(printed, "0x") {
		t.Errorf("the client or the store prints its content: %s", printed)
	}
}

func TestTokens_AreReplacedWhenTheyCannotBeDecrypted(t *testing.T) {
	f := newFleet(t, simulator.Config{})
	create(t, f.client(nil), 0)
	key := f.keys.Token(f.cfg.Fingerprint())
	damage := func(requested time.Time) {
		if err := f.rdb.HSet(t.Context(), key, "token", "damaged", "asked", requested.UnixMilli(), "until", time.Now().Add(time.Hour).UnixMilli()).Err(); err != nil {
			t.Fatal(err)
		}
	}
	damage(time.Now())
	create(t, f.client(func(c *Config) { c.Timeout = time.Second }), fault.TokenUnavailable) // too soon after the last request
	f.expectTokenRequests(1)
	damage(time.Now().Add(-spacing))
	create(t, f.client(nil), 0)
	f.expectTokenRequests(2)
	create(t, f.client(nil), 0)
	f.expectTokenRequests(2)
}
