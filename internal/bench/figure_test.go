package main

import (
	"bytes"
	"regexp"
	"testing"
	"time"
)

func TestRowsAndTable(t *testing.T) {
	repetitions := [][]figure{
		{atLeast("share", "%", 98.5, 98), must(atMost("over", "", 0, 0)), info("links", "1/s", 1000), atMost("time", "ms", 30, 20)},
		{atLeast("share", "%", 97, 98), must(atMost("over", "", 1.5, 0)), info("links", "1/s", 2000.4), atMost("time", "ms", 12.34, 20)},
		{atLeast("share", "%", 99, 98), must(atMost("over", "", -7, 0)), info("links", "1/s", 3000), atMost("time", "ms", 25, 20)},
		nil, // it broke
	}
	all := rows("rate", repetitions)
	var out bytes.Buffer
	if err := table(&out, all); err != nil {
		t.Fatal(err)
	}
	const want = `  share   98.5 (97–99)       %     ≥ 98   ok
  over    0 (-7–1.50)              ≤ 0    BROKEN
  links   2000 (1000–3000)   1/s          
  time    25 (12.3–30)       ms    ≤ 20   MISSED
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &out, want)
	}
	if !all[1].Broken || all[3].Broken {
		t.Errorf("broken: %v and %v; want the window, not the time", all[1].Broken, all[3].Broken)
	}
}

func TestMedian(t *testing.T) {
	if got := median([]float64{3, 1, 2}); got != 2 {
		t.Errorf("of three: %g", got)
	}
	if got := median([]float64{4, 1}); got != 2.5 {
		t.Errorf("of two: %g", got)
	}
}

func TestProbes(t *testing.T) {
	for lasts, want := range map[time.Duration]int{
		4 * time.Second: 0, 5 * time.Second: 1, 20 * time.Second: 2, 2 * time.Minute: 4, 10 * time.Minute: 12,
	} {
		if got := probes(lasts); got != want {
			t.Errorf("%d in %v, want %d", got, lasts, want)
		}
	}
}

func TestP999(t *testing.T) {
	got, err := p999("# Latencystats\r\nlatency_percentiles_usec_get:p99.9=3.007\r\nlatency_percentiles_usec_evalsha:p99.9=2129.919\r\n")
	if err != nil || got != 2129919*time.Nanosecond {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := p999("# Latencystats\r\n"); err == nil {
		t.Error("nothing was said, and taken")
	}
}

func TestChanges(t *testing.T) {
	got, err := changes([]byte(`{"account":"default","gate":{"state":"open"},"history":[{"at":"2026-01-02T03:04:05.5Z","state":"closed","reason":"outage"}]}`))
	if want := (change{start().Add(500 * time.Millisecond), "closed", "outage"}); err != nil || len(got) != 1 || got[0] != want {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
	if _, err := changes([]byte("open")); err == nil {
		t.Error("what is no JSON was taken")
	}
}

func TestScenarios_AreNamedOnce(t *testing.T) {
	seen := make(map[string]bool)
	for _, s := range scenarios() {
		if seen[s.name] || !regexp.MustCompile(`^[a-z0-9-]+$`).MatchString(s.name) || s.about == "" || s.within <= 0 {
			t.Errorf("%q: a name of its own, a description and a bound are needed", s.name)
		}
		seen[s.name] = true
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{"-run", "("}, {"-reps", "0"}, {"-nonsense"}, {"rate"}} {
		var out, notes bytes.Buffer
		if code := run(args, &out, &notes); code != 2 || notes.Len() == 0 {
			t.Errorf("%v: exit code %d, %q", args, code, &notes)
		}
	}
}
