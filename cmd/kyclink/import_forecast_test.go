package main

import (
	"strings"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/operator"
)

func TestForecast_SaysWhatWouldBeTooLate(t *testing.T) {
	done := time.Date(2026, 12, 1, 10, 0, 0, 0, time.UTC)
	planned := operator.Planned{Rows: 200, NotAfter: done.Add(-time.Hour)}
	var out strings.Builder
	printForecast(&out, planned, operator.Forecast{
		Rate: "10/s", Gate: admission.GateStatus{State: "closed", Reason: "outage"}, Backlog: 20, Duration: 22 * time.Second, Done: done, Expired: 1, Late: 50,
	})
	const want = `kyclink: at the account's rate of 10/s, 200 new links would take about 22s, after the 20 in the backlog; done by 2026-12-01T10:00:00Z
kyclink: WARNING: the account's gate is closed (outage); no link is created until it opens
kyclink: WARNING: 1 link (0 %) would expire before the batch's last one is created; increase expiry_minutes, or import the file in parts
kyclink: WARNING: 50 rows (25 %) would fail, with no link by the batch's not_after (2026-12-01T09:00:00Z); import the file in parts, or use a later not_after
`
	if got := out.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
