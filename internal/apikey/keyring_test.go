package apikey

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/redistest"
)

func TestMain(m *testing.M) { fixture.Main(m) }

func TestKeyring_VerifiesWhatItCreated(t *testing.T) {
	account := redistest.Account()
	ring := NewKeyring(fixture.Redis().Client(t), account)
	key, issued, err := ring.Create(t.Context(), "shop", []Scope{Read, Enqueue, Read})
	if err != nil || !regexp.MustCompile(`^kyclink_[0-9a-f]{12}_[A-Za-z0-9_-]{43}$`).MatchString(key) {
		t.Fatalf("Create: got a key of %d bytes in another form, %v", len(key), err)
	}
	if !slices.Equal(issued.Scopes, []Scope{Enqueue, Read}) || !strings.HasPrefix(key, "kyclink_"+issued.ID+"_") {
		t.Errorf("got issued key %+v", issued)
	}
	// Among the wrong keys are this id with another key's secret, and small changes of the right key.
	other, _, err := ring.Create(t.Context(), "other", []Scope{Operate})
	if err != nil {
		t.Fatal(err)
	}
	secret := key[len("kyclink_")+13:]
	flipped := key[:len(key)-1] + string(rune(key[len(key)-1]^1))
	for _, wrong := range []string{
		"", "kyclink_", "kyclink__", secret, key[8:], key + "A", key[:len(key)-1], flipped, strings.ToUpper(key), " " + key,
		"kyclink_" + issued.ID + other[len("kyclink_")+12:], "kyclink_000000000000_" + secret, "kyclink_" + issued.ID, "kyclink_" + issued.ID + "_",
	} {
		if got, err := ring.Verify(t.Context(), wrong); !errors.Is(err, ErrUnknown) || got.ID != "" {
			t.Errorf("verify a wrong key of %d bytes: got %+v, %v; want ErrUnknown", len(wrong), got, err)
		}
	}
	for range 2 { // from Redis, then from the cache
		got, err := ring.Verify(t.Context(), key)
		if err != nil || got.ID != issued.ID || got.Name != "shop" || !got.Allows(Enqueue) || got.Allows(Operate) {
			t.Errorf("verify: got %+v, %v", got, err)
		}
	}
	if _, err := NewKeyring(fixture.Redis().Client(t), redistest.Account()).Verify(t.Context(), key); !errors.Is(err, ErrUnknown) {
		t.Errorf("verify in another account: got %v, want ErrUnknown", err)
	}

	// Redis does not contain the key's secret.
	kept, err := fixture.Redis().Client(t).HGetAll(t.Context(), "{kyclink:"+account+"}:api-keys").Result()
	if err != nil || len(kept) != 2 {
		t.Fatalf("got %d stored keys, %v; want 2", len(kept), err)
	}
	if strings.Contains(fmt.Sprint(kept), secret) {
		t.Error("Redis contains the secret of the key")
	}
}

// fakeRedis is a hook that answers each command in place of Redis, after a second.
type fakeRedis struct {
	value    string
	commands atomic.Int32
}

func (a *fakeRedis) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		a.commands.Add(1)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return ctx.Err()
		}
		cmd.(*redis.StringCmd).SetVal(a.value)
		return nil
	}
}

func (*fakeRedis) DialHook(next redis.DialHook) redis.DialHook { return next }

func (*fakeRedis) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func TestKeyring_ReadsAKeyOnceForConcurrentRequests(t *testing.T) {
	account := redistest.Account()
	key, _, err := NewKeyring(fixture.Redis().Client(t), account).Create(t.Context(), "shop", []Scope{Read})
	if err != nil {
		t.Fatal(err)
	}
	kept, err := fixture.Redis().Client(t).HVals(t.Context(), "{kyclink:"+account+"}:api-keys").Result()
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		fake := &fakeRedis{value: kept[0]}
		rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"}) // a host name would need a DNS lookup, which synctest cannot run
		defer rdb.Close()
		rdb.AddHook(fake)
		ring := NewKeyring(rdb, account)
		gone, cancel := context.WithCancel(t.Context())
		first := make(chan error, 1)
		go func() {
			_, err := ring.Verify(gone, key)
			first <- err
		}()
		synctest.Wait()
		var verified sync.WaitGroup
		for range 1000 {
			verified.Go(func() {
				if got, err := ring.Verify(t.Context(), key); err != nil || got.Name != "shop" {
					t.Errorf("verify: got %+v, %v", got, err)
				}
			})
		}
		synctest.Wait()
		cancel()
		if err := <-first; !errors.Is(err, context.Canceled) {
			t.Errorf("the cancelled request got %v, want context.Canceled", err)
		}
		verified.Wait()
		if n := fake.commands.Load(); n != 1 {
			t.Errorf("Redis got %d commands, want 1", n)
		}
	})
}

func TestKeyring_RefusesInvalidNamesAndScopes(t *testing.T) {
	ring := NewKeyring(fixture.Redis().Client(t), redistest.Account())
	for _, tt := range []struct {
		name   string
		scopes []Scope
		want   string
	}{
		{"", []Scope{Read}, "1 to 64 printable characters"},
		{strings.Repeat("ä", 65), []Scope{Read}, "1 to 64"},
		{"a\nb", []Scope{Read}, "printable"},
		{"a\xff", []Scope{Read}, "printable"},
		{"shop", nil, "needs a scope"},
		{"shop", []Scope{Read, "admin"}, `unknown scope "admin"; the scopes are enqueue,read,operate`},
	} {
		if _, _, err := ring.Create(t.Context(), tt.name, tt.scopes); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("name %q with scopes %v: got %v, want %q", tt.name, tt.scopes, err, tt.want)
		}
	}
	if keys, err := ring.List(t.Context()); err != nil || len(keys) != 0 {
		t.Errorf("got keys %v, %v; want none", keys, err)
	}
}

// Another process creates and revokes the key. A new key is valid at once.
func TestKeyring_RefusesARevokedKeyWithinTwoSeconds(t *testing.T) {
	account := redistest.Account()
	here, there := NewKeyring(fixture.Redis().Client(t), account), NewKeyring(fixture.Redis().Client(t), account)
	now := time.Now()
	here.now = func() time.Time { return now }
	key, issued, err := there.Create(t.Context(), "shop", Scopes())
	if err != nil {
		t.Fatal(err)
	}
	valid := func(want bool) {
		t.Helper()
		if _, err := here.Verify(t.Context(), key); (err == nil) != want || err != nil && !errors.Is(err, ErrUnknown) {
			t.Errorf("got valid %t, %v; want %t", err == nil, err, want)
		}
	}
	valid(true)
	if revoked, err := there.Revoke(t.Context(), issued.ID); err != nil || revoked.RevokedAt.IsZero() {
		t.Fatalf("revoke: got %+v, %v", revoked, err)
	}
	now = now.Add(2*time.Second - time.Millisecond)
	valid(true)
	now = now.Add(time.Millisecond)
	valid(false)
	if again, err := there.Revoke(t.Context(), issued.ID); !errors.Is(err, ErrUnknown) || again.ID != issued.ID {
		t.Errorf("revoke again: got %+v, %v; want ErrUnknown", again, err)
	}
	if _, err := there.Revoke(t.Context(), "000000000000"); !errors.Is(err, ErrUnknown) {
		t.Errorf("revoke an unknown key: got %v, want ErrUnknown", err)
	}
	keys, err := here.List(t.Context())
	if err != nil || len(keys) != 1 || keys[0].RevokedAt.IsZero() || keys[0].Name != "shop" {
		t.Errorf("list: got %+v, %v; want one revoked key", keys, err)
	}
	closed := fixture.Redis().Client(t)
	_ = closed.Close()
	if _, err := NewKeyring(closed, account).Verify(t.Context(), key); err == nil || errors.Is(err, ErrUnknown) || strings.Contains(err.Error(), key) {
		t.Errorf("verify without Redis: got %v, want an error without the key that is not ErrUnknown", err)
	}
}
