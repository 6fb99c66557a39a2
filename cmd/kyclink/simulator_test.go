package main

import (
	"strings"
	"syscall"
	"testing"

	"github.com/kyclink/kyclink/internal/fixture"
)

// Everyone who can reach the simulator can script it, so it warns if it listens beyond
// loopback.
func TestSimulator_WarnsBeyondLoopback(t *testing.T) {
	t.Parallel()
	for listen, warns := range map[string]bool{"127.0.0.1:0": false, "[::1]:0": false, "localhost:0": false, "0.0.0.0:0": true, ":0": true} {
		p := start(t, nil, "simulator", "--listen", listen)
		fixture.Eventually(t, "it listens", func() bool { return strings.Contains(p.stderr.String(), "simulator is listening") || over(p) })
		if strings.Contains(listen, "::1") && strings.Contains(p.stderr.String(), "cannot assign") {
			continue // there is no IPv6
		}
		if said := strings.Contains(p.stderr.String(), "is not a loopback address"); said != warns {
			t.Errorf("--listen %s prints: %s", listen, p.stderr.String())
		}
		p.signal(syscall.SIGTERM)
		p.exit()
	}
}

func over(p *process) bool {
	select {
	case <-p.over:
		return true
	default:
		return false
	}
}
