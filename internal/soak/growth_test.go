package main

import (
	"math"
	"math/rand/v2"
	"testing"
)

// synthetic returns the values of a function of the time from 0 to 1, with noise.
func synthetic(noise float64, of func(at float64) float64) []float64 {
	random := rand.New(rand.NewPCG(7, 7))
	values := make([]float64, 360)
	for i := range values {
		values[i] = of(float64(i)/float64(len(values))) + noise*random.NormFloat64()
	}
	return values
}

func TestTrend_FindsGrowthOnly(t *testing.T) {
	allowed := allowance{amount: 5, share: 0.05}
	for _, tt := range []struct {
		name   string
		values []float64
		want   bool
	}{
		{"flat", synthetic(0, func(float64) float64 { return 100 }), false},
		{"flat with noise", synthetic(8, func(float64) float64 { return 100 }), false},
		{"sawtooth of a garbage collector", synthetic(2, func(at float64) float64 { return 100 + 80*math.Mod(at*40, 1) }), false},
		{"slow sawtooth", synthetic(2, func(at float64) float64 { return 100 + 80*math.Mod(at*9, 1) }), false},
		{"fast rise during the warm-up", synthetic(2, func(at float64) float64 { return 500 * min(at*4, 1) }), false},
		{"one step in the warm-up", synthetic(2, func(at float64) float64 { return 100 + 200*step(at, 0.2) }), false},
		{"one step later", synthetic(0, func(at float64) float64 { return 100 + 20*step(at, 0.6) }), false},
		{"peaks of outages", synthetic(2, func(at float64) float64 { return 100 + 900*step(math.Mod(at*8, 1), 0.85) }), false},
		{"fall", synthetic(2, func(at float64) float64 { return 200 - 100*at }), false},
		{"growth within the allowance", synthetic(0.5, func(at float64) float64 { return 100 + 10*at }), false},
		{"leak", synthetic(2, func(at float64) float64 { return 100 + 40*at }), true},
		{"leak with noise", synthetic(8, func(at float64) float64 { return 100 + 60*at }), true},
		{"leak under a sawtooth", synthetic(2, func(at float64) float64 { return 100 + 80*math.Mod(at*40, 1) + 60*at }), true},
		{"leak in steps, one for each outage", synthetic(0, func(at float64) float64 { return 100 + 6*math.Floor(at*8) }), true},
		{"leak of a small number", synthetic(0, func(at float64) float64 { return 20 * at }), true},
	} {
		got, ok := trendOf(tt.values)
		if !ok || got.grows(allowed) != tt.want {
			t.Errorf("%s: trend %+v, known: %v; grows: %v, want %v", tt.name, got, ok, got.grows(allowed), tt.want)
		}
	}
}

// step is 0 before a time and 1 from then on.
func step(at, from float64) float64 {
	if at < from {
		return 0
	}
	return 1
}

func TestTrend_IsUnknownWithFewValues(t *testing.T) {
	few := make([]float64, 20)
	missing := synthetic(0, func(float64) float64 { return 1 })
	for i := 200; i < 280; i++ {
		missing[i] = math.NaN()
	}
	for name, values := range map[string][]float64{"none": nil, "few": few, "missing in one part": missing} {
		if got, ok := trendOf(values); ok {
			t.Errorf("%s: trend %+v, want none", name, got)
		}
	}
	missing[230] = 1
	for i := range 20 {
		missing[200+4*i] = 1
	}
	if got, ok := trendOf(missing); !ok || got != (trend{1, 1, 1}) {
		t.Errorf("some missing: trend %+v, known: %v; want 1, 1, 1", got, ok)
	}
}

// What is not known of one of them is not known of all.
func TestMeter_SubtractsConnectionsFromOpenFiles(t *testing.T) {
	worker, serve, redis := [2]string{files, "worker 1"}, [2]string{files, "serve"}, [2]string{clients, together}
	m := &meter{rig: &rig{processes: []*process{{name: "worker 1"}, {name: "serve"}}}}
	for name, tt := range map[string]struct {
		of   sample
		want float64 // 0: not known
	}{
		"all are known":          {sample{worker: 50, serve: 30, redis: 60}, 20},
		"a scrape failed":        {sample{worker: 50, redis: 20}, 0},
		"Redis was not measured": {sample{worker: 50, serve: 30}, 0},
	} {
		m.openFiles(tt.of)
		if got := tt.of[[2]string{files, notToRedis}]; got != tt.want {
			t.Errorf("%s: got %v, want %v", name, got, tt.want)
		}
	}
}
