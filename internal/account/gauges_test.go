package account_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/account"
	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/fixture/ledgertest"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/results"
)

func TestGauges_ReportTheStoredAccount(t *testing.T) {
	t.Parallel()
	s := ledgertest.NewStream(t, 3000, results.Config{Age: 1000 * time.Hour, Cap: 4000})
	s.Trim()
	for i := range account.MaxGaugedGroups + 10 {
		s.Must(s.Redis.XGroupCreate(t.Context(), s.Keys.Results(), fmt.Sprintf("g%02d", i), "0").Err())
	}
	s.Must(s.Redis.XReadGroup(t.Context(), &redis.XReadGroupArgs{Group: "g00", Consumer: "one", Streams: []string{s.Keys.Results(), ">"}, Count: 2000}).Err())
	for i := range 500 {
		s.Must(s.Redis.XAck(t.Context(), s.Keys.Results(), "g00", s.ID(i)).Err())
	}
	g := s.Gauges()
	r := g.Results
	if r.Length != 3000 || r.Cap != 4000 || len(r.Groups) != account.MaxGaugedGroups || r.Oldest() < 239*time.Hour || r.Oldest() > 241*time.Hour {
		t.Errorf("the stream has %d of %d events and %d groups, its oldest event is %s old", r.Length, r.Cap, len(r.Groups), r.Oldest())
	}
	if g := r.Groups[0]; g.Group != "g00" || g.Unacknowledged() != 2500 {
		t.Errorf("the gauges are %+v", g)
	}
	if g := r.Groups[1]; g.Group != "g01" || g.Unacknowledged() != 3000 {
		t.Errorf("the gauges are %+v", g)
	}
	if g.Gate.State != "open" || g.Rate != 5 {
		t.Errorf("the gate is %+v, the rate %v/s", g.Gate, g.Rate)
	}
	for i, key := range []string{s.Keys.OperatorList(request.Held), s.Keys.OperatorList(request.Failed), s.Keys.Undelivered(), s.Keys.Pending()} {
		for n := range i + 1 {
			s.Must(s.Redis.ZAdd(t.Context(), key, redis.Z{Member: fmt.Sprint(n)}).Err())
		}
	}
	_, err := admission.NewAccount(s.Redis, s.Keys.Account).OverrideRate(t.Context(), admission.Rate{N: 30, Per: time.Minute}, 0)
	s.Must(err)
	if g := s.Gauges(); g.Held != 1 || g.Failed != 2 || g.GivenUp != 3 || g.Pending != 4 || g.Rate != 0.5 {
		t.Errorf("the gauges are %+v", g)
	}
	// After an event was deleted, Redis does not know the lag of a group. Only a few
	// events are counted to find it out.
	s.Must(s.Redis.XDel(t.Context(), s.Keys.Results(), s.ID(2950)).Err())
	s.Must(s.Redis.XReadGroup(t.Context(), &redis.XReadGroupArgs{Group: "g00", Consumer: "one", Streams: []string{s.Keys.Results(), ">"}, Count: 930}).Err())
	if g := s.Gauges().Results.Groups[0]; g.Lag != 70-1 || g.LagAtLeast {
		t.Errorf("the gauges are %+v", g)
	}
	if g := s.Gauges().Results.Groups[1]; g.Lag != 100 || !g.LagAtLeast {
		t.Errorf("the gauges are %+v", g)
	}
}

// A full Redis refuses much; the status and the metrics, which have its memory, must not be
// among it.
func TestGauges_CanBeReadFromAFullRedis(t *testing.T) {
	t.Parallel()
	h := ledgertest.NewOn(t, redistest.Start(t))
	h.Import("spring", ledgertest.Rows(1, 5))
	const limit = 1 << 20
	h.Must(h.Redis.ConfigSet(t.Context(), "maxmemory", fmt.Sprint(limit)).Err())
	if g := h.Gauges(); g.Backlog.Bulk != 5 || g.Workers != 1 || g.Memory.Max != limit || g.Memory.Used < limit {
		t.Errorf("the gauges are %+v", g)
	}
	s, err := h.Stores.Account.Status(t.Context())
	h.Must(err)
	if s.Backlog.Bulk != 5 || s.Workers != 1 || s.Upstream != "simulated" {
		t.Errorf("the status is %+v", s)
	}
}
