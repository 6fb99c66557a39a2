package batch_test

import (
	"testing"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/fixture/ledgertest"
)

func TestMain(m *testing.M) { fixture.Main(m) }

// harness is an account with the helpers of the tests of batches.
type harness struct{ *ledgertest.Harness }

func newHarness(t testing.TB) *harness { return &harness{ledgertest.New(t)} }

// newCalling returns an account whose only request is being called, and that call.
func newCalling(t *testing.T) (*harness, attempt.Attempt) {
	h, a := ledgertest.NewCalling(t)
	return &harness{h}, a
}
