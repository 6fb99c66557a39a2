package simulator_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/kyclink/kyclink/internal/faceki/simulator"
)

// callDirectly calls the handler without a network and returns the status.
func callDirectly(sim http.Handler, token, id string) int {
	r := httptest.NewRequest("POST", "/kycverify/api/kycverify/kyc-verify-link", strings.NewReader(`{"applicationId":"`+id+`"}`))
	r.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	sim.ServeHTTP(w, r)
	return w.Code
}

// withScript returns a simulator with a script and a token for it.
func withScript(t testing.TB, script string) (*simulator.Simulator, string) {
	t.Helper()
	s, err := simulator.ParseScript([]byte(script))
	if err != nil {
		t.Fatal(err)
	}
	sim := simulator.New(simulator.Config{Script: s, KeepCalls: 50})
	w := httptest.NewRecorder()
	sim.ServeHTTP(w, httptest.NewRequest("GET", "/auth/api/access-token?clientId=a&clientSecret=b", nil))
	return sim, tokenIn(w.Body.String())
}

func TestScript_FaultsAreRepeatableAndLimited(t *testing.T) {
	const script = `{"seed":7,"faults":[{"fault":"http_500","probability":0.3},{"fault":"code_8016","probability":0.2}],"max_faults_per_id":2}`
	run := func(workers int) (map[string]int, simulator.State) {
		sim, token := withScript(t, script)
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() {
				for i := w; i < 2000; i += workers {
					for range 5 {
						callDirectly(sim, token, fmt.Sprint("id-", i))
					}
				}
			})
		}
		wg.Wait()
		faults := make(map[string]int)
		for _, a := range sim.Applications(0, 5000).Applications {
			faults[a.ApplicationID] = a.Faults
			if a.Faults > 2 {
				t.Errorf("%s had %d faults, want at most 2", a.ApplicationID, a.Faults)
			}
		}
		return faults, sim.State()
	}
	one, state := run(1)
	many, _ := run(8)
	for id, n := range one {
		if many[id] != n {
			t.Fatalf("%s: got %d faults with one goroutine and %d with eight; want the same", id, n, many[id])
		}
	}
	a, b := float64(state.Faults["http_500"]), float64(state.Faults["code_8016"])
	if a < 1.3*b || a > 1.7*b {
		t.Errorf("got %v http_500 and %v code_8016; want a ratio of 3 to 2", a, b)
	}
}

func TestScript_RulesTakePrecedenceOverFaults(t *testing.T) {
	sim, token := withScript(t, `{"rules":[{"match":"bad-*","fault":"http_400"},{"match":"shy-??","fault":"http_500","times":2}],
		"faults":[{"fault":"http_418","probability":1}],"max_faults_per_id":4}`)
	for id, want := range map[string][]int{
		"bad-a/b": {400, 400, 400, 400, 400},
		"shy-01":  {500, 500, 418, 418, 200},
		"shy-001": {418, 418, 418, 418, 200},
	} {
		for i, status := range want {
			if got := callDirectly(sim, token, id); got != status {
				t.Errorf("call %d for %s: got status %d, want %d", i+1, id, got, status)
			}
		}
	}
}

func TestScript_ReportsErrorsAndIsNotPutIntoEffect(t *testing.T) {
	for script, want := range map[string]string{
		`{"latencyy":"1s"}`: `unknown field "latencyy"`,
		`{"rules":[{"match":"a","fault":"hang","tmies":1}]}`:                                     `unknown field "tmies"`,
		`{"faults":[{"fault":"hang","probabilty":1}]}`:                                           `unknown field "probabilty"`,
		`{"outage":{"fault":"hang","x":1}}`:                                                      `unknown field "x"`,
		`{"outage":"explode"}`:                                                                   `unknown fault "explode"`,
		`{"outage":"http_99"}`:                                                                   `from 200 to 599`,
		`{"outage":{"fault":"http_500","envelope":"brown"}}`:                                     `envelope applies to`,
		`{"outage":{"fault":"hang","status":500}}`:                                               `status applies to code_<n> only`,
		`{"outage":{"fault":"reset_after","made":false}}`:                                        `made is not allowed`,
		`{"outage":{"fault":"foreign_url","host":"apps.faceki.com"}}`:                            `must end in .example`,
		`{"outage":{"fault":"hang","host":"links.example"}}`:                                     `host applies to foreign_url only`,
		`{"rules":[{"match":"[","fault":"hang"}]}`:                                               `rules[0]: match must be`,
		`{"rules":[{"fault":"hang"}]}`:                                                           `rules[0]: match must be`,
		`{"faults":[{"fault":"hang"}]}`:                                                          `faults[0]: probability`,
		`{"faults":[{"fault":"hang","probability":0.6},{"fault":"http_500","probability":0.6}]}`: `the sum of the probabilities is 1.2`,
		`{"rate_limit":{"per_second":0,"burst":1}}`:                                              `per_second must be greater than 0`,
		`{"latency":"fast"}`:                                                                     `invalid duration "fast"`,
		`{"jitter":"1s"}`:                                                                        `jitter: must not exceed`,
		`{"credit":-1}`:                                                                          `credit: must not be negative`,
		`{} {}`:                                                                                  `unexpected text after`,
		`{`:                                                                                      `unexpected EOF`,
	} {
		if _, err := simulator.ParseScript([]byte(script)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseScript(%s): got error %v, want %s", script, err, want)
		}
	}
	u := start(t, simulator.Config{})
	u.script(`{"credit":1}`)
	resp, body, _ := u.send("PUT", "/_simulator/script", `{"credit":-1,"outage":"explode"}`)
	if resp.StatusCode != 400 || !strings.Contains(body, "explode") || !strings.Contains(body, "credit") {
		t.Fatalf("got %d %s; want 400 with both errors", resp.StatusCode, body)
	}
	if s := u.sim.State(); *s.Credit != 1 {
		t.Fatal("an invalid script was put into effect")
	}
}

func TestScript_SurvivesEncodingAndDecoding(t *testing.T) {
	s, err := simulator.ParseScript([]byte(`{"seed":1,"latency":"80ms","rules":[{"match":"x","fault":"code_5003","envelope":"code","times":2}],
		"faults":[{"fault":"http_500","probability":0.1,"made":true}],"outage":"hang","credit":0}`))
	if err != nil {
		t.Fatal(err)
	}
	written, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	decoded, err := simulator.ParseScript(written)
	rewritten, _ := json.Marshal(decoded)
	if err != nil || string(rewritten) != string(written) || !strings.Contains(string(written), `"latency":"80ms"`) {
		t.Fatalf("error %v; encoded as\n%s\nand after decoding as\n%s", err, written, rewritten)
	}
	u := start(t, simulator.Config{})
	if err := (remote{u.url}).setScript(context.Background(), s); err != nil {
		t.Fatal(err)
	}
	_, body, _ := u.send("GET", "/_simulator/script", "")
	if strings.TrimSpace(body) != string(written) {
		t.Fatalf("got script %s, want %s", body, written)
	}
}

func FuzzParseScript(f *testing.F) {
	f.Add(`{"rules":[{"match":"bad-*","fault":"code_5002"}],"outage":"http_503"}`)
	f.Add(`{"faults":[{"fault":"hang","probability":1}],"rate_limit":{"per_second":1,"burst":1}}`)
	f.Fuzz(func(t *testing.T, script string) {
		s, err := simulator.ParseScript([]byte(script))
		if err != nil {
			return
		}
		simulator.New(simulator.Config{Script: s})
	})
}

func BenchmarkCreateLink(b *testing.B) {
	sim, token := withScript(b, `{}`)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		callDirectly(sim, token, fmt.Sprint(i))
	}
}
