package batch_test

import (
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/fixture/ledgertest"
)

func TestBatches_AreListedWithThroughputAndETA(t *testing.T) {
	h := newHarness(t)
	h.Import("spring", ledgertest.Rows(1, 20))
	h.Import("autumn", ledgertest.Rows(101, 103))
	for _, ref := range h.Feed() {
		if a := h.Admit(h.Stores, ref, attempt.Call); a.Batch == 1 && ref.ApplicationID != "R-20" {
			_, err := h.Stores.Requests.Created(t.Context(), a, ledgertest.Link())
			h.Must(err)
		}
	}
	list, err := h.Stores.Batches.All(t.Context())
	h.Must(err)
	if len(list) != 2 || list[0].Batch != "spring" || list[1].Batch != "autumn" || list[1].Throughput != 0 || !list[1].ETA.IsZero() {
		t.Fatalf("the batches are listed as %+v", list)
	}
	spring := list[0]
	if spring.Throughput <= 0 || spring.Throughput > 19 || spring.ETA.Before(time.Now().Add(-2*time.Second)) || spring.ETA.After(time.Now().Add(time.Minute)) {
		t.Errorf("batch spring is listed as %+v", spring)
	}
	if old := time.Since(spring.CreatedAt); old < 0 || old > time.Minute {
		t.Errorf("batch spring was created at %v", spring.CreatedAt)
	}
}
