package bulk

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

// journalEnv makes the test binary another run: it opens the journal of the
// OUT named by it, and reports on stdout.
const journalEnv = "KYCLINK_TEST_JOURNAL"

func TestMain(m *testing.M) {
	if out := os.Getenv(journalEnv); out != "" {
		os.Exit(otherRun(out))
	}
	fixture.Main(m)
}

// otherRun appends a link and a call without an answer, says so, and waits to
// be killed, or for the end of its input.
func otherRun(out string) int {
	j, err := OpenJournal(out, embedded, false)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	ctx := context.Background()
	for _, s := range []Snapshot{snap("A-1", request.Created, 1), calling("A-2")} {
		if err := j.Append(ctx, s); err != nil {
			fmt.Println(err)
			return 1
		}
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

func otherRunCommand(t *testing.T, out string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), journalEnv+"="+out)
	return cmd
}

func TestNewBatch(t *testing.T) {
	for out, want := range map[string]string{
		"links.csv": "run:links.csv:", "/srv/kyc/Zoë.csv": "run:Zoë.csv:", "two\nlines.csv": "run:out:", "bad\xff.csv": "run:out:",
		"hidden\u202e.csv": "run:out:", strings.Repeat("x", 200): "run:out:",
	} {
		one, other := NewBatch(out), NewBatch(out)
		if !strings.HasPrefix(one, want) || len(one) < len(want)+20 || one == other {
			t.Errorf("the batches of %q are %q and %q", out, one, other)
		}
	}
}

func TestKeysHaveTypes(t *testing.T) {
	// typed knows the keys that are no strings; a new one has to be added there.
	const known = "[application_id redirect_url expiry_minutes document_optional workflow_id lane callback_url not_after generation metadata]"
	if got := fmt.Sprint(tasks.Keys()); got != known {
		t.Errorf("a request has the keys %s; typed() was written for %s", got, known)
	}
}

func file(t testing.TB, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t testing.TB, path string) *Input {
	t.Helper()
	in, err := Open(path, Reading{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close() })
	return in
}

func rows(t testing.TB, in *Input) []Row {
	t.Helper()
	var all []Row
	for row, err := range in.Rows() {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, row)
	}
	return all
}

func read(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
