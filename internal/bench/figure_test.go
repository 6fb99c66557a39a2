package main

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestTable_ShowsMedianRangeAndResult(t *testing.T) {
	repetitions := [][]figure{
		{atLeast("share", "%", 98.5, 98), must(atMost("over", "", 0, 0)), info("calls", "", 7), atMost("time", "ms", 30, 20), atLeast("links", "1/s", 1000, 1.2).against(1000)},
		{atLeast("share", "%", 97, 98), must(atMost("over", "", 1.5, 0)), info("calls", "", 7), atMost("time", "ms", 12.34, 20), atLeast("links", "1/s", 2000.4, 1.2).against(1000)},
		{atLeast("share", "%", 99, 98), must(atMost("over", "", -7, 0)), info("calls", "", 7), atMost("time", "ms", 25, 20), atLeast("links", "1/s", 3000, 1.2).against(2000)},
		nil, // a failed repetition
	}
	m := result{Scenario: "rate", Rows: rows(repetitions)}
	var out bytes.Buffer
	if err := table(&out, m); err != nil {
		t.Fatal(err)
	}
	const want = `  figure       kyclink            baseline   ratio           target     met
  share, %     98.5 (97–99)                                  ≥ 98       yes
  over         0 (-7–1.50)                                   ≤ 0        FAILED
  calls        7                                                        
  time, ms     25 (12.3–30)                                  ≤ 20       no
  links, 1/s   2000 (1000–3000)   1000       1.50 (1–2.00)   ≥ 1.20 ×   yes
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &out, want)
	}
	if !m.Rows[1].Broken || m.Rows[3].Broken {
		t.Errorf("failed: got over %v and time %v, want true and false", m.Rows[1].Broken, m.Rows[3].Broken)
	}
	out.Reset()
	if err := table(&out, m, result{Scenario: "drain"}); err != nil || !strings.Contains(out.String(), "\nrate\n") || !strings.Contains(out.String(), "\ndrain\n") {
		t.Errorf("a table of two scenarios does not name them:\n%s", &out)
	}
}

func TestMedian_AveragesTheMiddleValues(t *testing.T) {
	if got := median([]float64{3, 1, 2}); got != 2 {
		t.Errorf("median of three values: got %g, want 2", got)
	}
	if got := median([]float64{4, 1}); got != 2.5 {
		t.Errorf("median of two values: got %g, want 2.5", got)
	}
}

func TestProbes_CountsDoublingPauses(t *testing.T) {
	for lasts, want := range map[time.Duration]int{
		4 * time.Second: 0, 5 * time.Second: 1, 20 * time.Second: 2, 2 * time.Minute: 4, 10 * time.Minute: 12,
	} {
		if got := probes(lasts, longestProbePause); got != want {
			t.Errorf("probes in %v: got %d, want %d", lasts, got, want)
		}
	}
	if got := probes(time.Minute, probePause); got != 12 {
		t.Errorf("probes in a minute with equal pauses: got %d, want 12", got)
	}
}

func TestParseP999_ReadsTheLatencyOfScripts(t *testing.T) {
	got, err := parseP999("# Latencystats\r\nlatency_percentiles_usec_get:p99.9=3.007\r\nlatency_percentiles_usec_evalsha:p99.9=2129.919\r\n")
	if err != nil || got != 2129919*time.Nanosecond {
		t.Errorf("got %v, error %v; want 2.129919ms", got, err)
	}
	if _, err := parseP999("# Latencystats\r\n"); err == nil {
		t.Error("parseP999 without a value: got no error")
	}
}

func TestChanges_ReadsTheGateHistory(t *testing.T) {
	got, err := changes([]byte(`{"account":"default","gate":{"state":"open"},"history":[{"at":"2026-01-02T03:04:05.5Z","state":"closed","reason":"outage"}]}`))
	if want := (change{start().Add(500 * time.Millisecond), "closed", "outage"}); err != nil || len(got) != 1 || got[0] != want {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
	if _, err := changes([]byte("open")); err == nil {
		t.Error("changes of invalid JSON: got no error")
	}
}

func TestScenarios_HaveUniqueNamesAndTimeouts(t *testing.T) {
	seen := make(map[string]bool)
	for _, s := range scenarios() {
		if seen[s.name] || !regexp.MustCompile(`^[a-z0-9-]+$`).MatchString(s.name) || s.about == "" || s.takes <= 0 || s.takes >= s.timeout {
			t.Errorf("scenario %q needs a unique name, a description, a usual time and a longer timeout", s.name)
		}
		seen[s.name] = true
	}
	if sum := remaining(scenarios()); sum > budget*19/20 {
		t.Errorf("all scenarios take %v, want at most 95 %% of %v", sum, budget)
	}
}

func TestRun_RejectsInvalidArguments(t *testing.T) {
	for _, args := range [][]string{{"-run", "("}, {"-reps", "0"}, {"-nonsense"}, {"rate"}} {
		var out, notes bytes.Buffer
		if code := run(args, &out, &notes); code != 2 || notes.Len() == 0 {
			t.Errorf("run(%q): got exit code %d and message %q, want 2 and a message", args, code, &notes)
		}
	}
}
