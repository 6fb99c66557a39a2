package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/fixture"
)

// startLimited is start with a limit on open files.
func startLimited(t *testing.T, files int, settings []string, args ...string) *process {
	t.Helper()
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("there is no shell to set a limit with")
	}
	limited := append([]string{"-c", fmt.Sprintf(`ulimit -n %d; exec "$0" "$@"`, files), binary}, args...)
	return startBinary(t, sh, settings, limited...)
}

// Connections beyond the limit on open files wait until others close, and do not affect
// health, metrics and Redis.
func TestServe_LimitsItsHTTPConnections(t *testing.T) {
	t.Parallel()
	const files, connections = 256, 400
	p := startLimited(t, files, []string{"KYCLINK_REDIS_URL=" + newRedis(t).URL, "KYCLINK_LISTEN=127.0.0.1:0"}, "serve")
	var addr, watched string
	fixture.Eventually(t, "it listens", func() bool {
		log := p.stderr.String()
		api := regexp.MustCompile(`"address":"([^"]+)"`).FindStringSubmatch(log)
		ops := regexp.MustCompile(`"ops_address":"([^"]+)"`).FindStringSubmatch(log)
		if api != nil && ops != nil {
			addr, watched = api[1], ops[1]
		}
		return api != nil && ops != nil
	})
	var held []net.Conn
	for range connections {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, conn)
		t.Cleanup(func() { _ = conn.Close() })
		// The request is answered, and the connection stays open.
		_, _ = io.WriteString(conn, "GET /v1/openapi.yaml HTTP/1.1\r\nHost: a\r\n\r\n")
	}
	fixture.Eventually(t, "the last connections wait", func() bool { return strings.Contains(p.stderr.String(), "all HTTP connections are in use") })
	fixture.Eventually(t, "it is ready", func() bool { status, _ := look(t, "http://"+watched+"/readyz"); return status == http.StatusOK })
	last := held[len(held)-1]
	for _, conn := range held[:len(held)-1] {
		_ = conn.Close()
	}
	_ = last.SetReadDeadline(time.Now().Add(time.Minute))
	if resp, err := http.ReadResponse(bufio.NewReader(last), nil); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("the waiting connection is not answered: %v", err)
	}
}

func TestServe_RefusesTooFewOpenFiles(t *testing.T) {
	t.Parallel()
	p := startLimited(t, 100, []string{"KYCLINK_REDIS_URL=" + newRedis(t).URL, "KYCLINK_LISTEN=127.0.0.1:0"}, "serve")
	if code := p.exit(); code != 78 || !strings.Contains(p.stderr.String(), "ulimit -n is 100, and serve needs at least 152") {
		t.Errorf("%d %s", code, p.stderr.String())
	}
}
