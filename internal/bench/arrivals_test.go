package main

import (
	"math"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

// every returns n evenly spaced arrivals.
func every(d time.Duration, n int) []time.Time {
	at := make([]time.Time, n)
	for i := range at {
		at[i] = start().Add(time.Duration(i) * d)
	}
	return at
}

func TestExcess_CountsCallsOverTheLimit(t *testing.T) {
	l := limit{perSecond: 10, burst: 5}
	for _, tt := range []struct {
		name   string
		at     []time.Time
		window time.Duration
		want   float64
	}{
		{"none", nil, time.Second, -16},
		{"at the rate", every(100*time.Millisecond, 50), time.Second, 11 - 16}, // both ends are inside
		{"all at once", every(0, 20), time.Second, 20 - 16},
		{"twice the rate", every(50*time.Millisecond, 1000), 10 * time.Second, 201 - 106},
		{"a burst in the middle", append(every(time.Second, 5), every(time.Millisecond, 9)...), 200 * time.Millisecond, 10 - 8},
	} {
		slices.SortFunc(tt.at, time.Time.Compare)
		if got := l.excess(tt.at, tt.window); math.Abs(got-tt.want) > 1e-9 {
			t.Errorf("%s: got %g, want %g", tt.name, got, tt.want)
		}
	}
}

func TestExcess_IsThatOfTheFullestWindow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		gaps := rapid.SliceOfN(rapid.Int64Range(0, 400), 1, 60).Draw(t, "gaps")
		window := time.Duration(rapid.Int64Range(0, 2000).Draw(t, "window")) * time.Millisecond
		at, now := []time.Time(nil), start()
		for _, gap := range gaps {
			now = now.Add(time.Duration(gap) * time.Millisecond)
			at = append(at, now)
		}
		fullest := 0
		for _, begin := range at {
			n := 0
			for _, other := range at {
				if !other.Before(begin) && other.Sub(begin) <= window {
					n++
				}
			}
			fullest = max(fullest, n)
		}
		l := limit{perSecond: 3, burst: 2}
		want := float64(fullest) - 3*(window+grace).Seconds() - 2
		if got := l.excess(at, window); math.Abs(got-want) > 1e-9 {
			t.Fatalf("got %g, want %g", got, want)
		}
	})
}

func TestWorst_AllowsATokenBucketButNotMore(t *testing.T) {
	l := limit{perSecond: 20, burst: 5}
	at := append(every(0, 5), every(50*time.Millisecond, 1000)...)
	slices.SortFunc(at, time.Time.Compare)
	if got := l.worst(at); got > 0 {
		t.Errorf("worst excess of a token bucket: got %g, want at most 0", got)
	}
	if got := l.worst(every(45*time.Millisecond, 1000)); got <= 0 {
		t.Errorf("worst excess of 11 %% over the rate: got %g, want more than 0", got)
	}
}

func TestShare_IsThePercentageOfTheRate(t *testing.T) {
	l := limit{perSecond: 10}
	at := every(100*time.Millisecond, 100)
	for _, tt := range []struct{ from, to, want float64 }{{0, 10, 100}, {5, 6, 100}, {5, 15, 50}, {-10, 0, 0}, {20, 30, 0}} {
		from := start().Add(time.Duration(tt.from * float64(time.Second)))
		to := start().Add(time.Duration(tt.to * float64(time.Second)))
		if got := l.share(at, from, to); math.Abs(got-tt.want) > 1e-9 {
			t.Errorf("share from %g to %g s: got %g %%, want %g", tt.from, tt.to, got, tt.want)
		}
	}
}

func TestRecovered_FindsTheFirstFullWindow(t *testing.T) {
	l := limit{perSecond: 10}
	slow := every(time.Second, 7) // 0 … 6 s
	var at []time.Time
	at = append(at, slow...)
	for _, a := range every(100*time.Millisecond, 100) {
		at = append(at, a.Add(7*time.Second))
	}
	if got, ok := l.recovered(at, start(), 5*time.Second); !ok || got < 6500*time.Millisecond || got > 7*time.Second {
		t.Errorf("recovered: got %v, %v; want just before 7 s", got, ok)
	}
	if got, ok := l.recovered(slow, start(), 5*time.Second); ok {
		t.Errorf("recovered at a tenth of the rate after %v, want false", got)
	}
	if _, ok := l.recovered(nil, start(), time.Second); ok {
		t.Error("recovered without arrivals, want false")
	}
	if _, ok := l.recovered(every(100*time.Millisecond, 20), start(), 5*time.Second); ok {
		t.Error("recovered in a run shorter than the window, want false")
	}
}

func TestLowest_FindsAGap(t *testing.T) {
	l := limit{perSecond: 10}
	at := slices.DeleteFunc(every(100*time.Millisecond, 400), func(a time.Time) bool { // nothing arrives for 1.5 s
		return a.Sub(start()) > 20*time.Second && a.Sub(start()) <= 21500*time.Millisecond
	})
	if got, ok := l.lowest(at, start(), start().Add(40*time.Second)); !ok || math.Abs(got-85) > 1e-9 {
		t.Errorf("lowest share around a gap: got %g %%, %t; want 85", got, ok)
	}
	if got, ok := l.lowest(at, start(), start().Add(19*time.Second)); !ok || math.Abs(got-100) > 1e-9 {
		t.Errorf("lowest share before the gap: got %g %%, %t; want 100", got, ok)
	}
	if _, ok := l.lowest(at, start(), start().Add(9*time.Second)); ok {
		t.Error("lowest in a period shorter than the window, want false")
	}
}

func TestSteady_OmitsStartAndEnd(t *testing.T) {
	at := every(10*time.Millisecond, 1000)
	from, to, err := steady(at, 3*time.Second)
	if err != nil || from != start().Add(3*time.Second) || to != at[970] {
		t.Errorf("steady period: got %v to %v, error %v", from.Sub(start()), to.Sub(start()), err)
	}
	if from, to, err = steady(every(time.Millisecond, 100), 3*time.Second); err != nil || from != start() || to.Sub(from) != 99*time.Millisecond {
		t.Errorf("steady period of a short run: got %v to %v, error %v; want the whole run", from.Sub(start()), to.Sub(start()), err)
	}
	for _, few := range [][]time.Time{nil, every(time.Second, 3), every(0, 50)} {
		if _, _, err := steady(few, time.Second); err == nil {
			t.Errorf("steady period of %d arrivals: got no error", len(few))
		}
	}
}

func TestPercentile_ReturnsASample(t *testing.T) {
	var samples []time.Duration
	for i := 200; i >= 1; i-- {
		samples = append(samples, time.Duration(i))
	}
	for p, want := range map[float64]time.Duration{0: 1, 50: 100, 99: 198, 99.9: 200, 100: 200} {
		if got := percentile(samples, p); got != want {
			t.Errorf("p%g: got %d, want %d", p, got, want)
		}
	}
	if got := percentile(samples[:1], 50); got != 200 {
		t.Errorf("p50 of one sample: got %d, want 200", got)
	}
}
