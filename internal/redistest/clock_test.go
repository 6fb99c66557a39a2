package redistest_test

import (
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/redistest"
)

func TestClock_ShiftsTheServersTime(t *testing.T) {
	srv, clock := redistest.StartWithClock(t)
	rdb := srv.Client(t)
	for _, offset := range []time.Duration{0, -time.Hour, 24 * time.Hour, 0} {
		if err := clock.Set(offset); err != nil {
			t.Fatal(err)
		}
		script, err := rdb.Eval(t.Context(), "return tonumber(redis.call('TIME')[1])", nil).Int64()
		if err != nil {
			t.Fatal(err)
		}
		now, err := rdb.Time(t.Context()).Result()
		if err != nil {
			t.Fatal(err)
		}
		for what, at := range map[string]time.Time{"TIME": now, "TIME in a script": time.Unix(script, 0)} {
			if off := time.Until(at) - offset; off.Abs() > 30*time.Second {
				t.Errorf("%s: got an offset of %v, want %v", what, time.Until(at), offset)
			}
		}
	}
}
