package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A warning names secret files that other users can read.
func TestOutput_WarnsOfReadableFiles(t *testing.T) {
	t.Parallel()
	redis := "KYCLINK_REDIS_URL=" + newRedis(t).URL
	dir := t.TempDir()
	people, rejects := filepath.Join(dir, "people.csv"), filepath.Join(dir, "rejects.csv")
	write := func(path, text string, mode os.FileMode) {
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	write(people, "application_id\nA-1\n", 0o600)
	for mode, warned := range map[os.FileMode]bool{0o666: true, 0o640: true, 0o600: false} {
		write(rejects, "", mode)
		code, _, stderr := kyclink(t, []string{redis}, "import", people, "--batch", "b", "--rejects", rejects)
		if code != 0 || strings.Contains(stderr, "other users may access it") != warned {
			t.Errorf("mode %v: %d %s", mode, code, stderr)
		}
	}

	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	certify(t, 1, cert, key)
	for mode, warned := range map[os.FileMode]bool{0o644: true, 0o640: true, 0o600: false} {
		if err := os.Chmod(key, mode); err != nil {
			t.Fatal(err)
		}
		s := startServe(t, strings.TrimPrefix(redis, "KYCLINK_REDIS_URL="), "KYCLINK_TLS_CERT="+cert, "KYCLINK_TLS_KEY="+key)
		if log := s.stderr.String(); strings.Contains(log, "other users can read the TLS key") != warned {
			t.Errorf("mode %v: %s", mode, log)
		}
		s.kill()
	}
}

func TestServe_RefusesOneAddressForTwoListeners(t *testing.T) {
	t.Parallel()
	settings := []string{"KYCLINK_REDIS_URL=" + newRedis(t).URL, "KYCLINK_LISTEN=:18089", "KYCLINK_OPS_LISTEN=127.0.0.1:18089"}
	code, _, stderr := kyclink(t, settings, "serve")
	if code != 78 || !strings.Contains(stderr, `KYCLINK_OPS_LISTEN is "127.0.0.1:18089", which KYCLINK_LISTEN (":18089") uses already`) {
		t.Errorf("%d %s", code, stderr)
	}
}
