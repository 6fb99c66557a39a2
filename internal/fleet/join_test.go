package fleet_test

import (
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/fleet"
	"github.com/kyclink/kyclink/internal/storage"
	"github.com/kyclink/kyclink/tasks"
)

var fast = admission.Rate{N: 200, Per: time.Second}

// joining is an account that no worker has joined yet.
type joining struct {
	*fixture.Account
	changed []string // the rates that joining workers replaced
}

func newJoining(t *testing.T) *joining {
	return &joining{Account: fixture.NewAccount(t)}
}

// process returns the stores of a worker that has not joined yet.
func (f *joining) process(simulated bool, rate admission.Rate) *storage.Stores {
	return storage.New(f.Redis, storage.Config{
		Fleet: fleet.Config{Account: f.Keys.Account, Simulated: simulated, Rate: rate, Burst: 5, RateChanged: func(from admission.Rate, _ int) { f.changed = append(f.changed, from.String()) }},
	})
}

// dump returns all that Redis keeps of the account.
func (f *joining) dump() map[string]string {
	f.Helper()
	all := map[string]string{}
	keys, err := f.Redis.Keys(f.Context(), `{kyclink:`+f.Keys.Account+`}*`).Result()
	f.Must(err)
	for _, key := range keys {
		raw, err := f.Redis.Dump(f.Context(), key).Result()
		f.Must(err)
		all[key] = raw
	}
	return all
}

// The first worker that joins an account makes it real or simulated. A worker of the
// other kind is refused, and has changed nothing.
func TestJoin_ChangesNothingWhenRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		before    func(f *joining)
		simulated bool // the worker that is refused
		has       string
	}{
		"real, before its first link": {func(f *joining) { f.Must(f.process(false, slow).Fleet.Join(f.Context())) }, true, "is real"},
		"real, whose worker left": {func(f *joining) {
			w := f.process(false, slow)
			f.Must(w.Fleet.Join(f.Context()))
			f.Must(w.Fleet.Leave(f.Context()))
		}, true, "is real"},
		"simulated": {func(f *joining) { f.Must(f.process(true, slow).Fleet.Join(f.Context())) }, false, "is simulated"},
		"real, of an earlier version": {func(f *joining) {
			f.Must(f.Redis.HSet(f.Context(), f.Keys.State(), "upstream", "real").Err())
		}, true, "is real"},
		"an earlier version's worker was here": {func(f *joining) {
			f.Must(f.Redis.HSet(f.Context(), f.Keys.Tag()+":gate", "set:n", 5, "set:per", 1000).Err())
		}, true, "may be real"},
		"an earlier version's worker is here": {func(f *joining) {
			f.Must(f.Redis.Do(f.Context(), "ZADD", f.Keys.Workers(), 1, "7").Err())
		}, true, "may be real"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newJoining(t)
			_, err := f.Client.Enqueue(t.Context(), tasks.Request{ApplicationID: "A-1"})
			f.Must(err)
			tt.before(f)
			before := f.dump()
			refused := f.process(tt.simulated, fast)
			err = refused.Fleet.Join(t.Context())
			if wrong, ok := errors.AsType[*fleet.UpstreamError](err); !ok || !strings.Contains(wrong.Error(), tt.has) {
				t.Errorf("joining returned %v, want %q", err, tt.has)
			}
			if _, err := refused.Fleet.ID(t.Context()); err == nil {
				t.Error("a refused worker reads the ledger's id")
			}
			if after := f.dump(); !maps.Equal(after, before) {
				t.Errorf("the account was %q, and is %q after the refusal", before, after)
			}
			if f.changed != nil {
				t.Errorf("the refused worker replaced the rate %v", f.changed)
			}
		})
	}
}

var slow = admission.Rate{N: 5, Per: time.Second}

func TestJoin_SetsTheRate(t *testing.T) {
	f := newJoining(t)
	_, err := f.Client.Enqueue(t.Context(), tasks.Request{ApplicationID: "A-1"}) // does not determine the kind
	f.Must(err)
	f.Must(f.process(true, slow).Fleet.Join(t.Context()))
	if s, err := f.process(true, slow).Account.Status(t.Context()); err != nil || s.Upstream != "simulated" || s.Rate.Limit != "5/s" || s.Workers != 1 {
		t.Errorf("the status is %+v, %v", s, err)
	}
	f.Must(f.process(true, slow).Fleet.Join(t.Context()))
	if f.changed != nil {
		t.Errorf("joining with the same rate replaced %v", f.changed)
	}
	f.Must(f.process(true, fast).Fleet.Join(t.Context()))
	if s, err := f.process(true, slow).Account.Status(t.Context()); err != nil || s.Rate.Limit != "200/s" || s.Workers != 3 || len(f.changed) != 1 || f.changed[0] != "5/s" {
		t.Errorf("the status is %+v, %v; the replaced rates are %v", s, err, f.changed)
	}
	f.Must(storage.New(f.Redis, storage.Config{Fleet: fleet.Config{Account: f.Keys.Account, Simulated: true}}).Fleet.Join(t.Context())) // without a rate
	if s, err := f.process(true, slow).Account.Status(t.Context()); err != nil || s.Rate.Limit != "200/s" {
		t.Errorf("the status is %+v, %v", s, err)
	}
	if err := storage.New(f.Redis, storage.Config{Fleet: fleet.Config{Account: f.Keys.Account, Simulated: true, Rate: fast, Burst: 1}}).Fleet.Join(t.Context()); err == nil {
		t.Error("a worker joined with a rate of 200/s and a burst of 1")
	}
}

// A heartbeat notices that Redis lost the account, whichever process has joined it since.
func TestHeartbeat_FailsWhenRedisWasEmptied(t *testing.T) {
	f := newJoining(t)
	one, other := f.process(false, slow), f.process(false, slow)
	for _, w := range []*storage.Stores{one, other} {
		f.Must(w.Fleet.Join(t.Context()))
		f.Must(w.Fleet.Heartbeat(t.Context(), []string{"A-1:1:1:1"}))
	}
	f.Must(f.Redis.Del(t.Context(), f.Keys.Workers()).Err()) // as when Redis loses its last writes
	f.Must(one.Fleet.Heartbeat(t.Context(), nil))
	keys, err := f.Redis.Keys(t.Context(), `{kyclink:`+f.Keys.Account+`}*`).Result()
	f.Must(err)
	f.Must(f.Redis.Del(t.Context(), keys...).Err())
	for _, w := range []*storage.Stores{one, other} {
		err := w.Fleet.Heartbeat(t.Context(), nil)
		if _, emptied := errors.AsType[*fleet.EmptiedError](err); !emptied {
			t.Fatalf("a heartbeat to an emptied Redis returned %v", err)
		}
		f.Must(w.Fleet.Join(t.Context()))
		f.Must(w.Fleet.Heartbeat(t.Context(), nil))
	}
	if s, err := one.Account.Status(t.Context()); err != nil || s.Upstream != "real" || s.Workers != 2 || s.Rate.Limit != "5/s" {
		t.Errorf("the status is %+v, %v", s, err)
	}
}

func TestHeartbeat_FailsBeforeJoin(t *testing.T) {
	if err := newJoining(t).process(false, slow).Fleet.Heartbeat(t.Context(), nil); err == nil {
		t.Error("a heartbeat succeeds without a join")
	}
}
