package erasure_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/audit"
	"github.com/kyclink/kyclink/internal/fixture/ledgertest"
	"github.com/kyclink/kyclink/internal/fleet"
	"github.com/kyclink/kyclink/internal/quarantine"
	"github.com/kyclink/kyclink/internal/storage"
)

// An unreadable record is erased on request, and never by retention. A record of a newer
// version is erased in neither case.
func TestErase_RemovesUnreadableRecordsWhichRetentionKeeps(t *testing.T) {
	h := newHarness(t)
	h.Import("spring", ledgertest.Rows(1, 2))
	h.Must(h.Redis.SetRange(t.Context(), h.Keys.Record("R-1"), 1, "?").Err())
	h.Must(h.Redis.SetRange(t.Context(), h.Keys.Record("R-2"), 0, "9").Err())
	keeper := storage.New(h.Redis, storage.Config{Fleet: fleet.Config{Account: h.Keys.Account}, Retention: time.Nanosecond})
	if n, err := keeper.Erasure.EraseExpired(t.Context(), time.Hour); n != 0 || err != nil {
		t.Errorf("retention erased %d records, %v", n, err)
	}
	for _, e := range h.Erase("R-1", "R-2") {
		if !e.Unreadable || e.Erased != (e.ApplicationID == "R-1") {
			t.Errorf("the erasure is %+v", e)
		}
	}
	for id, kept := range map[string]int64{"R-1": 0, "R-2": 1} {
		if n := h.Redis.Exists(t.Context(), h.Keys.Record(id)).Val(); n != kept {
			t.Errorf("%s has %d records", id, n)
		}
	}
}

// An erased request is removed from the gate, other requests are not.
func TestErase_RemovesTheRequestFromTheGate(t *testing.T) {
	h := newHarness(t)
	h.Import("spring", ledgertest.Rows(1, 3))
	h.CancelBatch("spring")
	gate, refused := h.Keys.Tag()+":gate", h.Keys.Tag()+":refused:c1"
	h.Must(h.Redis.HSet(t.Context(), gate, "probe", "R-2", "refused", "c1", "row", "R-1\nR-2\nR-3").Err())
	h.Must(h.Redis.HSet(t.Context(), refused, "id", "R-2", "prober", "7").Err())
	h.Erase("R-1") // which is not the probe
	if probe := h.Redis.HGet(t.Context(), gate, "probe").Val() + h.Redis.HGet(t.Context(), refused, "id").Val(); probe != "R-2R-2" {
		t.Errorf("the probes are %q, want R-2 twice", probe)
	}
	h.Erase("R-2")
	h.Must(h.Redis.Del(t.Context(), h.Keys.Results(), h.Keys.Order(1)).Err())
	h.expectNoTrace("R-1", "R-2")
	if row := h.Redis.HGet(t.Context(), gate, "row").Val(); row != "R-3" {
		t.Errorf("the gate's row of faults is %q, want R-3", row)
	}
}

func TestEraseQuarantined_RemovesEntriesThatNameTheRequest(t *testing.T) {
	h := newHarness(t)
	for _, p := range []quarantine.Entry{
		{Task: "A-1:1:1:1", Why: "asynq cannot read the task"}, {Task: "A-10:1:1:1"}, {Task: "x", Raw: []byte("\n.A-1:1:1:1\x00")},
		{Task: "y", Raw: []byte(`{"application_id":"A-10"}`)}, {Task: "z", Raw: []byte(`{"application_id":"A-1"}`)},
	} {
		h.Must(h.Stores.Quarantine.Add(t.Context(), p))
	}
	names, err := h.Stores.Erasure.QuarantinedIDs(t.Context())
	if err != nil || len(names) != 2 || !names["A-1"] {
		t.Errorf("the quarantine names %v, %v", names, err)
	}
	n, err := h.Stores.Erasure.EraseQuarantined(t.Context(), map[string]bool{"A-1": true})
	var left []quarantine.Entry
	for p, err := range h.Stores.Quarantine.All(t.Context()) {
		h.Must(err)
		left = append(left, p)
	}
	if n != 3 || err != nil || len(left) != 2 || left[0].Task != "y" || left[1].Task != "A-10:1:1:1" {
		t.Errorf("%d entries were erased, %v; %+v are left", n, err, left)
	}
}

// The entries of the audit trail that name a request are erased with it, by request and not
// by retention. The trail is read only as far as an earlier version may have written it.
func TestErase_RemovesEntriesOfTheAuditTrail(t *testing.T) {
	h := newHarness(t)
	trail := audit.NewTrail(h.Redis, h.Keys.Account)
	change := func(target string) {
		t.Helper()
		h.Must(trail.Append(t.Context(), audit.Change{Action: "links.request", Target: target}))
	}
	earlier := func(target string) {
		t.Helper()
		h.Must(h.Redis.XAdd(t.Context(), &redis.XAddArgs{Stream: h.Keys.Audit(), Values: []string{"target", target}}).Err())
	}
	earlier("R-1")
	h.Import("spring", ledgertest.Rows(1, 3))
	for _, target := range []string{"R-1", "R-2", "spring", "R-1", "R-3", "gone", ""} {
		change(target)
	}
	earlier("R-1") // beside this version
	for range 150 {
		change("often")
	}
	for state, want := range map[string]int{"R-3": 0, "gone": 1, "often": 150} { // one waits, and one has no record
		if e := h.Erase(state)[0]; e.Entries != want {
			t.Errorf("the erasure is %+v, want %d entries", e, want)
		}
	}
	h.CancelBatch("spring")
	keeper := storage.New(h.Redis, storage.Config{Fleet: fleet.Config{Account: h.Keys.Account}, Retention: time.Nanosecond})
	if e := h.Erase("R-1")[0]; e.Entries != 2 {
		t.Errorf("the erasure is %+v, want two entries", e)
	}
	left := func() (targets []string) {
		t.Helper()
		for _, e := range h.Redis.XRange(t.Context(), h.Keys.Audit(), "-", "+").Val() {
			targets = append(targets, fmt.Sprint(e.Values["target"]))
		}
		return targets
	}
	indexed := func(ago time.Duration) {
		t.Helper()
		h.Must(h.Redis.HSet(t.Context(), h.Keys.State(), "audit_indexed", time.Now().Add(-ago).UnixMilli()).Err())
	}
	indexed(time.Hour)
	n, err := h.Stores.Erasure.EraseEntries(t.Context(), map[string]bool{"R-1": true})
	h.Must(err)
	h.Must(h.Redis.Del(t.Context(), h.Keys.Tag()+":ended").Err()) // retention finds the requests by scanning
	_, err = keeper.Erasure.EraseExpired(t.Context(), time.Hour)
	h.Must(err)
	if got := left(); n != 2 || !slices.Equal(got, []string{"R-2", "spring", "R-3", ""}) {
		t.Errorf("%d entries of an earlier version were erased, those of %q are left", n, got)
	}
	if e := h.Erase("R-2")[0]; e.Entries != 1 { // retention has erased its record
		t.Errorf("the erasure is %+v, want one entry", e)
	}
	indexed(25 * time.Hour)
	earlier("R-4") // this cannot be: no earlier version writes any more
	if n, err := h.Stores.Erasure.EraseEntries(t.Context(), map[string]bool{"R-4": true}); n != 0 || err != nil {
		t.Errorf("%d entries were erased, %v; want the trail not to be read", n, err)
	}
}
