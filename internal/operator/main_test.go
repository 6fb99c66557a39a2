package operator_test

import (
	"testing"

	"github.com/kyclink/kyclink/internal/fixture"
)

func TestMain(m *testing.M) { fixture.Main(m) }
