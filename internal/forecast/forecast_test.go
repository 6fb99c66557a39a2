package forecast

import (
	"testing"
	"time"
)

func TestForecast_CountsRowsThatComeFirst(t *testing.T) {
	f := Forecast{PerSecond: 5, Before: 100}
	if got := f.Expired(36_000, map[int]int{0: 18_000, 60: 18_000}, 1440); got != 9000 { // two hours
		t.Errorf("%d links expire, want 9000", got)
	}
	if got := f.Duration(400); got != 100*time.Second {
		t.Errorf("400 rows take %v, want 100 s", got)
	}
	if got := f.Late(400, time.Minute); got != 200 {
		t.Errorf("%d rows are late, want 200", got)
	}
}

func TestThroughput_FollowsRecentGrowth(t *testing.T) {
	t.Parallel()
	var p Throughput
	at := time.Date(2026, 11, 29, 10, 0, 0, 0, time.UTC)
	second := func(n int) time.Time { return at.Add(time.Duration(n) * time.Second) }
	for _, c := range []struct {
		at, n int
		want  Rate
	}{
		{0, 1000, 0},         // growth before a resume does not count
		{1, 1005, 0},         // too early
		{10, 1050, 5},        // since the first sample
		{20, 1050, 50. / 19}, // it slows down, the first sample is out
		{40, 1050, 0},        // nothing grows
		{50, 1200, 10},       // it grows again
	} {
		now := second(c.at)
		if got := p.Rate(now, c.n); got < c.want-6 || got > c.want+6 || (got == 0) != (c.want == 0) {
			t.Errorf("after %d s at %d the rate is %v, want about %v", c.at, c.n, got, c.want)
		}
		p.Add(now, c.n)
	}
}

func TestRate_UsesTheUnitThatSuits(t *testing.T) {
	for rate, want := range map[Rate]string{20: "20.0/s", 1: "1.0/s", 0.5: "30.0/min", 0.001: "3.6/h"} {
		if got := rate.String(); got != want {
			t.Errorf("%v a second is %q, want %q", float64(rate), got, want)
		}
	}
}
