package worker

import (
	"errors"
	"testing"

	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/ledger"
)

// A process whose account is another's by the time it joins again must not feed it.
func TestAWorkerEndsWhereItMayNotJoinAnew(t *testing.T) {
	b := newBench(t, simulator.Script{})
	w := b.start(b.book(), b.faceki)
	b.eventually("it works", w.started.Load)
	keys, err := b.rdb.Keys(t.Context(), b.keys.Tag()+"*").Result()
	b.must(err)
	b.must(b.rdb.Del(t.Context(), keys...).Err())
	b.must(ledger.New(b.rdb, ledger.Config{Account: b.keys.Account}).Join(t.Context())) // a real one
	err = w.wait()
	if refused, ok := errors.AsType[*ledger.UpstreamError](err); !ok || refused.Has != "real" {
		t.Errorf("it ended with %v", err)
	}
}
