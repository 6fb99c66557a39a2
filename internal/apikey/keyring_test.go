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
		t.Fatalf("%v, %v", len(key), err)
	}
	if !slices.Equal(issued.Scopes, []Scope{Enqueue, Read}) || !strings.HasPrefix(key, "kyclink_"+issued.ID+"_") {
		t.Errorf("issued %+v", issued)
	}
	// Another key's secret under this id, and all that is near the right one.
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
			t.Errorf("a wrong key of %d bytes gave %+v, %v", len(wrong), got, err)
		}
	}
	for range 2 { // from Redis, then from what is remembered
		got, err := ring.Verify(t.Context(), key)
		if err != nil || got.ID != issued.ID || got.Name != "shop" || !got.Allows(Enqueue) || got.Allows(Operate) {
			t.Errorf("%+v, %v", got, err)
		}
	}
	if _, err := NewKeyring(fixture.Redis().Client(t), redistest.Account()).Verify(t.Context(), key); !errors.Is(err, ErrUnknown) {
		t.Errorf("another account knows it: %v", err)
	}

	// What is in Redis does not hold it.
	kept, err := fixture.Redis().Client(t).HGetAll(t.Context(), "{kyclink:"+account+"}:api-keys").Result()
	if err != nil || len(kept) != 2 {
		t.Fatalf("%v, %v", len(kept), err)
	}
	if strings.Contains(fmt.Sprint(kept), secret) {
		t.Error("the key is kept as it is")
	}
}

// asked answers the commands of a client in place of Redis, one after a second.
type asked struct {
	value string
	times atomic.Int32
}

func (a *asked) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		a.times.Add(1)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return ctx.Err()
		}
		cmd.(*redis.StringCmd).SetVal(a.value)
		return nil
	}
}

func (*asked) DialHook(next redis.DialHook) redis.DialHook { return next }

func (*asked) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
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
		answer := &asked{value: kept[0]}
		rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"}) // a name would be looked up, in a bubble
		defer rdb.Close()
		rdb.AddHook(answer)
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
					t.Errorf("%+v, %v", got, err)
				}
			})
		}
		synctest.Wait()
		cancel()
		if err := <-first; !errors.Is(err, context.Canceled) {
			t.Errorf("whoever has gone gets %v", err)
		}
		verified.Wait()
		if n := answer.times.Load(); n != 1 {
			t.Errorf("asked %d times", n)
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
			t.Errorf("%q with %v: %v", tt.name, tt.scopes, err)
		}
	}
	if keys, err := ring.List(t.Context()); err != nil || len(keys) != 0 {
		t.Errorf("%v, %v", keys, err)
	}
}

// A key that another process revoked is let in for two seconds at most, and one
// that another process made at once.
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
			t.Errorf("it is valid: %v; %v", err == nil, err)
		}
	}
	valid(true)
	if revoked, err := there.Revoke(t.Context(), issued.ID); err != nil || revoked.RevokedAt.IsZero() {
		t.Fatalf("%+v, %v", revoked, err)
	}
	now = now.Add(2*time.Second - time.Millisecond)
	valid(true)
	now = now.Add(time.Millisecond)
	valid(false)
	if again, err := there.Revoke(t.Context(), issued.ID); !errors.Is(err, ErrUnknown) || again.ID != issued.ID {
		t.Errorf("revoked again: %+v, %v", again, err)
	}
	if _, err := there.Revoke(t.Context(), "000000000000"); !errors.Is(err, ErrUnknown) {
		t.Errorf("an unknown one: %v", err)
	}
	keys, err := here.List(t.Context())
	if err != nil || len(keys) != 1 || keys[0].RevokedAt.IsZero() || keys[0].Name != "shop" {
		t.Errorf("listed: %+v, %v", keys, err)
	}
	over := fixture.Redis().Client(t)
	_ = over.Close()
	if _, err := NewKeyring(over, account).Verify(t.Context(), key); err == nil || errors.Is(err, ErrUnknown) || strings.Contains(err.Error(), key) {
		t.Errorf("without Redis: %v", err)
	}
}
