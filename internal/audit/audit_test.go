package audit

import (
	"fmt"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/redistest"
)

func TestMain(m *testing.M) { fixture.Main(m) }

func TestTrail_ReturnsChangesInOrder(t *testing.T) {
	trail := NewTrail(fixture.Redis().Client(t), redistest.Account())
	const changes = 2*pageSize + 3
	key := apikey.Key{ID: "4f8a1c2e9b07", Name: "shop"}
	for i := range changes {
		if err := trail.Append(t.Context(), Change{Key: key, Action: "links.request", Target: fmt.Sprint("A-", i), RequestID: "r"}); err != nil {
			t.Fatal(err)
		}
	}
	read := func(since time.Time) (all []Change) {
		t.Helper()
		for c, err := range trail.Changes(t.Context(), since) {
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, c)
		}
		return all
	}
	all := read(time.Time{})
	if len(all) != changes {
		t.Fatalf("got %d changes, want %d", len(all), changes)
	}
	for i, c := range all {
		if c.Key.ID != key.ID || c.Key.Name != key.Name || c.Action != "links.request" || c.Target != fmt.Sprint("A-", i) || c.RequestID != "r" {
			t.Fatalf("change %d: got %+v", i, c)
		}
		if time.Since(c.At).Abs() > time.Hour || i > 0 && c.At.Before(all[i-1].At) {
			t.Fatalf("change %d: got time %v, which is wrong or before that of the previous change", i, c.At)
		}
	}
	at := all[len(all)-1].At
	for _, c := range read(at) {
		if c.At.Before(at) {
			t.Errorf("changes since %v include %+v", at, c)
		}
	}
	if later := read(at.Add(time.Hour)); len(later) != 0 {
		t.Errorf("got %d changes since an hour after the last, want none", len(later))
	}
}
