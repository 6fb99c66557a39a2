package results_test

import (
	"testing"

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/fixture/ledgertest"
)

func TestMain(m *testing.M) { fixture.Main(m) }

// harness is an account with the helpers of the tests of results.
type harness struct{ *ledgertest.Harness }

func newHarness(t testing.TB) *harness { return &harness{ledgertest.New(t)} }
