package fleet_test

import (
	"testing"

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/fixture/ledgertest"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/tasks"
)

func TestMain(m *testing.M) { fixture.Main(m) }

// harness is an account with the helpers of the tests of the fleet.
type harness struct{ *ledgertest.Harness }

func newHarness(t testing.TB) *harness { return &harness{ledgertest.New(t)} }

func newHarnessOn(t testing.TB, server *redistest.Server) *harness {
	return &harness{ledgertest.NewOn(t, server)}
}

// openDelivery opens a delivery of the event of a new request, which has ended.
func (h *harness) openDelivery(id string) {
	h.Helper()
	event := h.EndWithCallback(id, "https://shop.example/hooks")
	_, err := h.Stores.Deliveries.Open(h.Context(), []tasks.Event{event})
	h.Must(err)
}
