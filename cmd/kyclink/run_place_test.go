package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/kyclink/kyclink/internal/fixture"
)

// as runs kyclink as another user, without a home directory and a directory for temporary
// files. The working directory belongs to that user if own is true, and is read-only
// otherwise.
func as(t *testing.T, uid uint32, own bool, settings []string) (code int, stderr string, dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("it takes root to be somebody else")
	}
	dir = t.TempDir()
	for _, path := range []string{filepath.Dir(binary), filepath.Dir(dir), dir} {
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	in := write(t, filepath.Join(dir, "in.csv"), people(3))
	if err := os.Chmod(in, 0o644); err != nil {
		t.Fatal(err)
	}
	if own {
		if err := os.Chown(dir, int(uid), int(uid)); err != nil {
			t.Fatal(err)
		}
	}
	p := prepare(t, binary, append(settings, "TMPDIR=/nonexistent"), "run", in, "-o", filepath.Join(dir, "links.csv"), "--simulate")
	p.cmd.Dir = dir
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	p.begin()
	return p.exit(), p.stderr.String(), dir
}

// In a container, a process may have any user ID, no home directory, and no writable
// directory except the mounted one.
func TestRun_WorksForAnyUser(t *testing.T) {
	t.Parallel()
	_, setting := upstream(t, `{}`)
	code, stderr, dir := as(t, 123_456, true, []string{setting})
	if code != 0 || len(table(t, filepath.Join(dir, "links.csv"))) != 3 {
		t.Errorf("exit code %d:\n%s", code, stderr)
	}
}

func TestRun_ExplainsAReadOnlyFolder(t *testing.T) {
	t.Parallel()
	sim, setting := upstream(t, `{}`)
	code, stderr, dir := as(t, 123_457, false, []string{setting})
	if code != 1 || !strings.Contains(stderr, "links.csv.journal: it cannot be") || !strings.Contains(stderr, "permission denied") {
		t.Errorf("exit code %d:\n%s", code, stderr)
	}
	if calls := sim.State().LinkCalls; calls != 0 {
		t.Errorf("%d calls whose links cannot be kept", calls)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("%v is left, %v", left, err)
	}
}

// After the first signal, run drains its in-flight calls; after the second one, it exits
// at once, and these calls are possible duplicates.
func TestRun_StopsAtOnceOnASecondSignal(t *testing.T) {
	t.Parallel()
	sim, setting := upstream(t, `{"faults":[{"fault":"hang","probability":1}],"max_faults_per_id":1}`)
	dir := t.TempDir()
	in, out := write(t, filepath.Join(dir, "in.csv"), people(2)), filepath.Join(dir, "links.csv")
	p := start(t, []string{setting, "FACEKI_TIMEOUT=60s"}, "run", in, "-o", out, "--simulate")
	fixture.Eventually(t, "both are being called", func() bool { return sim.State().LinkCalls == 2 })
	p.signal(syscall.SIGINT)
	fixture.Eventually(t, "it prints that it drains them", func() bool {
		return strings.Contains(p.stderr.String(), "kyclink: stopping: draining in-flight calls; interrupt again to stop at once\n")
	})
	p.signal(syscall.SIGINT)
	if code, said := p.exit(), p.stderr.String(); code != 130 || strings.Contains(said, "stopped by") {
		t.Errorf("exit code %d:\n%s", code, said)
	}
	if code, _, stderr := kyclink(t, []string{setting}, "run", in, "-o", out, "--simulate"); code != 0 {
		t.Errorf("once more: exit code %d:\n%s", code, stderr)
	}
	for _, row := range table(t, out) {
		if row["status"] != "created" || row["attempts"] != "2" || row["possible_duplicates"] != "1" {
			t.Errorf("%v", row)
		}
	}
}
