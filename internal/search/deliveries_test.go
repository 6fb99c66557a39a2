package search

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/fixture/ledgertest"
)

// store stores deliveries, several at each moment, that were given up or are retried. Every
// third goes to another host.
func store(h *ledgertest.Harness, n int, retrying bool) (ids []string) {
	h.Helper()
	status, set := "given_up", h.Keys.Undelivered()
	if retrying {
		status, set = "pending", h.Keys.Pending()
	}
	_, err := h.Redis.Pipelined(h.Context(), func(pipe redis.Pipeliner) error {
		for i := range n {
			id, at, host := fmt.Sprintf("e-%05d", i), 1_800_000_000_000+int64(i/4), "shop.example"
			if i%3 == 0 {
				host = "other.example:8443"
			}
			ids = append(ids, id)
			pipe.HSet(h.Context(), h.Keys.Delivery(id), "application_id", id, "generation", 1, "run", 1, "host", host, "status", status,
				"attempts", 1, "at", at, "code", 500, "reason", "receiver_error", "given_up_at", map[bool]int64{true: 0, false: at}[retrying])
			pipe.ZAdd(h.Context(), set, redis.Z{Score: float64(at), Member: id})
		}
		return nil
	})
	h.Must(err)
	return ids
}

// collectDeliveries returns the events of all pages, and the number of pages.
func collectDeliveries(h *ledgertest.Harness, f DeliveryFilter, limit int) (ids []string, pages int) {
	h.Helper()
	for cursor := ""; ; {
		p, err := New(h.Redis, h.Keys).Deliveries(h.Context(), f, cursor, limit)
		h.Must(err)
		pages++
		for _, d := range p.Deliveries {
			ids = append(ids, d.EventID)
		}
		if cursor = p.Next; cursor == "" {
			return ids, pages
		}
		if pages > 1000 {
			h.Fatal("the pages do not end")
		}
	}
}

func TestDeliveries_AreEachOnOnePage(t *testing.T) {
	for _, retrying := range []bool{false, true} {
		h := ledgertest.New(t)
		all := store(h, 30, retrying)
		want := slices.Clone(all)
		if !retrying {
			slices.Reverse(want)
		}
		for _, limit := range []int{1, 2, 3, 5, 30, 500} {
			if got, _ := collectDeliveries(h, DeliveryFilter{Retrying: retrying}, limit); !slices.Equal(got, want) {
				t.Errorf("retrying %v, %d on a page: got %v", retrying, limit, got)
			}
			if got, _ := collectDeliveries(h, DeliveryFilter{Retrying: retrying, Host: "OTHER.example"}, limit); len(got) != 10 {
				t.Errorf("retrying %v, to one host, %d on a page: got %v, want 10", retrying, limit, got)
			}
			f := DeliveryFilter{Retrying: retrying, Since: time.UnixMilli(1_800_000_000_002), Before: time.UnixMilli(1_800_000_000_004)}
			if got, _ := collectDeliveries(h, f, limit); len(got) != 8 || !slices.Contains(got, "e-00008") || slices.Contains(got, "e-00016") {
				t.Errorf("retrying %v, in a period, %d on a page: got %v, want 8", retrying, limit, got)
			}
		}
		if got, _ := collectDeliveries(h, DeliveryFilter{Retrying: !retrying}, 10); len(got) != 0 {
			t.Errorf("retrying %v: got %v, want none", !retrying, got)
		}
	}
}

func TestDeliveries_ReadABoundedNumberForAPage(t *testing.T) {
	h := ledgertest.New(t)
	store(h, 3*mostDeliveries, false)
	p, err := New(h.Redis, h.Keys).Deliveries(t.Context(), DeliveryFilter{Host: "none.example"}, "", 100)
	h.Must(err)
	if len(p.Deliveries) != 0 || p.Next == "" || p.Examined < mostDeliveries/slowPart || p.Examined > mostDeliveries+timelineStep {
		t.Errorf("got %d deliveries of %d that were read and next %q, want none of at most about %d and a next page", len(p.Deliveries), p.Examined, p.Next, mostDeliveries)
	}
	if got, pages := collectDeliveries(h, DeliveryFilter{Host: "none.example"}, 100); len(got) != 0 || pages > 4*slowPart {
		t.Errorf("got %v on %d pages, want nothing on at most %d", got, pages, 4*slowPart)
	}
}
