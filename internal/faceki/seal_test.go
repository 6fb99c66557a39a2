package faceki

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/fault"
)

func TestFingerprint(t *testing.T) {
	seen := map[string]bool{}
	for _, change := range []func(*Config){func(*Config) {}, func(c *Config) { c.ClientID += "x" }, func(c *Config) { c.ClientSecret += "x" },
		func(c *Config) { c.BaseURL += "/x" }} {
		c := config()
		change(&c)
		if p := c.Fingerprint(); len(p) != 16 || p != c.Fingerprint() || seen[p] {
			t.Error(p)
		}
		seen[c.Fingerprint()] = true
	}
}

func TestNobodyElseReadsTheToken(t *testing.T) {
	f := newFleet(t, simulator.Config{})
	c := f.process(nil)
	create(t, c, 0)
	value := c.tokens.cached(time.Hour)
	key := f.keys.Token(f.cfg.Fingerprint())
	for _, key := range f.rdb.Keys(t.Context(), "*").Val() {
		dump := key + f.rdb.Dump(t.Context(), key).Val() + fmt.Sprint(f.rdb.HGetAll(t.Context(), key).Val())
		for _, leak := range []string{string(value), strings.TrimPrefix(string(value), "simulated-")[:8], string(f.cfg.ClientSecret), f.cfg.ClientID} {
			if strings.Contains(dump, leak) {
				t.Errorf("%s holds %q", key, leak)
			}
		}
	}
	if ttl := f.rdb.PTTL(t.Context(), key).Val(); ttl <= 0 || ttl > 3*time.Hour {
		t.Errorf("kept for %v", ttl)
	}

	sealed := []byte(f.rdb.HGet(t.Context(), key, "token").Val())
	other := f.cfg
	other.ClientSecret = "guessed"
	if _, ok := newSeal(other, "token").open(sealed, key); ok {
		t.Error("another secret opens it")
	}
	if _, ok := newSeal(f.cfg, "token").open(sealed, key+"x"); ok {
		t.Error("it opens elsewhere")
	}
	if got, ok := newSeal(f.cfg, "token").open(sealed, key); !ok || got != value {
		t.Error("it does not open")
	}
	if shown := fmt.Sprintf("%v %+v %#v", c, c.tokens.store, c.tokens.store); strings.Contains(shown, string(value)) || strings.Contains(shown, "0x") {
		t.Error(shown)
	}
}

func TestWhatCannotBeDecryptedCountsAsAbsent(t *testing.T) {
	f := newFleet(t, simulator.Config{})
	create(t, f.process(nil), 0)
	key := f.keys.Token(f.cfg.Fingerprint())
	spoil := func(asked time.Time) {
		if err := f.rdb.HSet(t.Context(), key, "token", "spoilt", "asked", asked.UnixMilli(), "until", time.Now().Add(time.Hour).UnixMilli()).Err(); err != nil {
			t.Fatal(err)
		}
	}
	spoil(time.Now())
	create(t, f.process(nil), fault.TokenUnavailable) // too soon
	f.asked(1)
	spoil(time.Now().Add(-spacing))
	create(t, f.process(nil), 0)
	f.asked(2)
	create(t, f.process(nil), 0)
	f.asked(2)
}
