package simulator_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/kyclink/kyclink/internal/faceki/simulator"
)

// Faults are switched while the simulator runs, by requests, and always from the initial
// script.
func TestPreset_SwitchesFaults(t *testing.T) {
	t.Parallel()
	u := start(t, simulator.Config{Script: simulator.Script{Rules: []simulator.Rule{{Match: "bad", Fault: simulator.Fault{Name: "code_5002"}}}}})
	to := func(name string, status int, says string) {
		t.Helper()
		resp, body, err := u.send("PUT", "/_simulator/faults/"+name, "")
		if err != nil || resp.StatusCode != status || !strings.Contains(body, says) {
			t.Errorf("switch to %s: %v %q, want %d with %q", name, err, body, status, says)
		}
	}
	shows := func(says string) {
		t.Helper()
		if _, body, _ := u.send("GET", "/_simulator/faults", ""); !strings.Contains(body, says) {
			t.Errorf("it shows %q, want %q", body, says)
		}
	}
	shows(`"faults":"off"`)
	u.want("A-1", http.StatusOK, "simulator.invalid")
	to("outage", http.StatusOK, `"faults":"outage"`)
	shows("HTTP 503")
	u.want("A-2", http.StatusServiceUnavailable, "")
	to("no-credit", http.StatusOK, `"faults":"no-credit"`)
	u.want("A-3", http.StatusOK, "5003")
	u.want("bad", http.StatusOK, "5003")
	u.script(`{"outage":"http_502"}`)
	shows(`"faults":"script"`)
	to("off", http.StatusOK, `"faults":"off"`)
	u.want("A-4", http.StatusOK, "simulator.invalid")
	u.want("bad", http.StatusOK, "5002")
	to("on", http.StatusBadRequest, "use off, some, outage or no-credit")
	shows(`"faults":"off"`)
}

func TestPresets_AreValidScripts(t *testing.T) {
	t.Parallel()
	sim := simulator.New(simulator.Config{})
	for _, p := range simulator.Presets() {
		if err := sim.Switch(p); err != nil || sim.Preset() != p || p.Describe() == "" {
			t.Errorf("%s: %v, in effect is %s", p, err, sim.Preset())
		}
	}
}
