package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/kyclink/kyclink/internal/fixture"
)

// peopleFile writes a CSV file with n rows.
func peopleFile(t testing.TB, n int) string {
	t.Helper()
	var text strings.Builder
	text.WriteString("application_id,redirect_url\n")
	for i := range n {
		fmt.Fprintf(&text, "P-%06d,https://shop.example/%d\n", i, i)
	}
	return write(t, filepath.Join(t.TempDir(), "people.csv"), text.String())
}

// An import that is killed at any row and repeated accepts each row once.
func TestImport_AcceptsEachRowOnceWhenKilled(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	rdb := server.Client(t)
	settings := []string{"KYCLINK_REDIS_URL=" + server.URL}
	const n = 20_000
	file := peopleFile(t, n)
	accepted := func() int {
		counted, _ := rdb.HGet(t.Context(), "{kyclink:default}:batch:1", "waiting").Int() // 0 before the first row
		return counted
	}
	for _, at := range []int{1, 1 + rand.IntN(n/2), n/2 + rand.IntN(n/3)} {
		p := start(t, settings, "import", file, "--batch", "spring")
		fixture.Eventually(t, fmt.Sprintf("%d rows are accepted", at), func() bool {
			select {
			case <-p.over:
				return true
			default:
				return accepted() >= at
			}
		})
		p.kill()
		disconnected(t, rdb)
	}
	before := accepted()
	for i := range 2 {
		code, stdout, stderr := kyclink(t, settings, "import", file, "--batch", "spring", "--json")
		var counts struct{ Rows, Accepted, Again, Rejected int }
		if err := json.Unmarshal([]byte(stdout), &counts); err != nil || code != 0 {
			t.Fatalf("exit code %d: %s, %v", code, stderr, err)
		}
		if counts.Rows != n || counts.Accepted != n-before || counts.Again != before {
			t.Errorf("import %d after %d rows printed %s", i, before, stdout)
		}
		if got := accepted(); got != n {
			t.Errorf("%d rows are waiting", got)
		}
		before = n
	}
	if order := rdb.HLen(t.Context(), "{kyclink:default}:order:1").Val(); order != n/100 {
		t.Errorf("%d chunks", order)
	}
}

func TestImport_ExplainsItsOutcome(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	settings := []string{"KYCLINK_REDIS_URL=" + server.URL}
	dir := t.TempDir()
	good := write(t, filepath.Join(dir, "good.csv"), "application_id\nA-1\nA-2\n")
	bad := write(t, filepath.Join(dir, "bad.csv"), "application_id,expiry_minutes\nA-3,0\nA-4,60\n")
	stranger := write(t, filepath.Join(dir, "stranger.csv"), "application_id,Colour\nA-5,red\n")
	rejects := filepath.Join(dir, "rejects.csv")
	for _, c := range []struct {
		args   string
		code   int
		stderr string
	}{
		{"import " + good, exitUsage, "--batch is required"},
		{"import - --batch a", exitUsage, "the format of standard input is unknown"},
		{"import " + good + " --batch a --delimiter ab", exitUsage, "use one character"},
		{"import " + good + " --batch a --map colour=x", exitUsage, `a request has no key "colour"`},
		{"import " + good + " --batch a --expiry-minutes 0", exitUsage, "--expiry-minutes must be at least 1"},
		{"import " + stranger + " --batch a", exitInput, `unknown columns "Colour"`},
		{"import " + filepath.Join(dir, "none.csv") + " --batch a", exitInput, "no such file"},
		{"import " + good + " --batch a --rejects " + good, exitError, "this is the input file"},
		{"import " + good + " --batch a --dry-run --not-after 2026-01-01T00:00:00Z", exitNotCreated, "2 invalid"},
		{"import " + good + " --batch a --dry-run", 0, "2 rows, 2 accepted"},
		{"import " + good + " --batch a --expiry-minutes 90", 0, "2 rows, 2 accepted"},
		{"import " + good + " --batch a", 0, "0 accepted, 2 accepted by this batch before"},
		{"import " + good + " --batch b", 0, "2 joined"},
		{"import " + good + " --batch a --expiry-minutes 91", exitError, "has different values of expiry_minutes"},
		{"import " + bad + " --batch a", exitNotCreated, "row 1 at line 2, invalid: expiry_minutes: must be at least 1"},
		{"import " + bad + " --batch a --rejects /dev/full", exitError, "write /dev/full: no space left on device"},
		{"import " + good + " --batch a --rejects /dev/full", exitError, "write /dev/full: no space left on device"},
		{"import " + bad + " --batch a --rejects " + rejects, exitNotCreated, "1 accepted by this batch before, 1 invalid"},
	} {
		code, _, stderr := kyclink(t, settings, strings.Fields(c.args)...)
		if code != c.code || !strings.Contains(stderr, c.stderr) {
			t.Errorf("%s: exit code %d, want %d, with %q:\n%s", c.args, code, c.code, c.stderr, stderr)
		}
	}
	if got := read(t, rejects); got != "application_id,expiry_minutes,reason,message\nA-3,0,invalid,expiry_minutes: must be at least 1\n" {
		t.Errorf("rejects: %s", got)
	}
	pipe := filepath.Join(dir, "pipe.csv")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, settings, "import", pipe, "--batch", "a")
	w, err := os.OpenFile(pipe, os.O_WRONLY, 0) // waits for the reader
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	p.signal(syscall.SIGINT)
	if code := p.exit(); code != exitInterrupted+int(syscall.SIGINT) || !strings.Contains(p.stderr.String(), "run the same command again to continue") {
		t.Errorf("exit code %d: %s", code, p.stderr.String())
	}
}
