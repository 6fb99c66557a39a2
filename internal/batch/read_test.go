package batch_test

import (
	"reflect"
	"testing"

	"github.com/kyclink/kyclink/internal/fixture/ledgertest"
	"github.com/kyclink/kyclink/internal/request"
)

func TestNamed_ReadsBatchesAsGetDoes(t *testing.T) {
	h := newHarness(t)
	h.Import("spring", ledgertest.Rows(1, 5))
	h.Import("autumn", ledgertest.Rows(4, 8)) // two of its rows joined
	h.Finish(h.Feed()[:1], "created")
	got, err := h.Stores.Batches.Named(t.Context(), []string{"autumn", "winter", "spring"})
	if h.Must(err); len(got) != 2 || got[0].Batch != "autumn" || got[1].Batch != "spring" {
		t.Fatalf("got %+v, want autumn and spring", got)
	}
	for _, b := range got {
		want, ok, err := h.Stores.Batches.Get(t.Context(), b.Number)
		if h.Must(err); !ok || !reflect.DeepEqual(b.JoinedCounts, want.JoinedCounts) || !reflect.DeepEqual(b.Counts, want.Counts) || b.Throughput != want.Throughput {
			t.Errorf("got %+v, want %+v", b, want)
		}
	}
	if spring := got[1]; spring.Counts[request.Created] != 1 || spring.Throughput == 0 {
		t.Errorf("got %+v, want one link and its throughput", spring)
	}
	if none, err := h.Stores.Batches.Named(t.Context(), nil); err != nil || len(none) != 0 {
		t.Errorf("no names: got %v, %v", none, err)
	}
}
