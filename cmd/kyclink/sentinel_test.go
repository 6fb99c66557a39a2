package main

import (
	"testing"

	"github.com/kyclink/kyclink/internal/redistest"
)

// After a failover, the workers continue by themselves, and only the few writes that the
// replica had not received are lost.
// It is not parallel: neighbours would delay the calls whose rate it measures.
func TestSentinel_FailoverLosesLittle(t *testing.T) {
	sentinel := redistest.StartSentinel(t)
	t.Run("core", func(t *testing.T) {
		core(t, func(t *testing.T, account string) place { return onSentinel(t, sentinel, account) }, false, false)
	})
	sim, faceki := upstream(t, `{"latency":"20ms"}`)
	workers := fleetOf(t, "sentinel", sentinel.URL, faceki)
	r := failover(t, workers, sentinel.Client(t), sim, 900, sentinel.Failover)
	if most := r.Accepted / 20; r.Missing > most || r.Uncounted > most {
		t.Errorf("more was lost than what was under way: %+v", r)
	}
}
