//go:build long

package main

import (
	"fmt"
	"testing"
	"time"
)

func TestSuite_FindsNoViolationWithAllFaults(t *testing.T) {
	for _, seed := range []uint64{42, 1, 2} {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			expectNoViolation(t, config{seed: seed, duration: 15 * time.Second, gap: time.Second})
		})
	}
}
