package journal

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/request"
)

// journalEnv names an OUT whose journal the test binary opens as another process.
const journalEnv = "KYCLINK_TEST_JOURNAL"

func TestMain(m *testing.M) {
	if out := os.Getenv(journalEnv); out != "" {
		os.Exit(otherRun(out))
	}
	fixture.Main(m)
}

// otherRun appends a link and a call without an answer, prints "ready", and waits to be
// killed, or for the end of its input.
func otherRun(out string) int {
	j, err := Open(out, embedded, false)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	ctx := context.Background()
	for _, s := range []request.Record{snap("A-1", request.Created, 1), calling("A-2")} {
		if err := j.Write(ctx, encode(s)); err != nil {
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
	fixture.Must(t, err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), journalEnv+"="+out)
	return cmd
}

var embedded = Header{Upstream: "simulated", Account: "default", Batch: "run:/out.csv", Ledger: "embedded", BaseURL: "https://simulator.invalid"}

const embeddedLine = `{"journal":{"version":1,"upstream":"simulated","account":"default","batch":"run:/out.csv","ledger":"embedded","base_url":"https://simulator.invalid"}}` + "\n"

var full = request.Record{
	ApplicationID: "A-1", State: request.Created, Lane: request.Bulk, Generation: 2, Run: 3, Attempts: 9, Charged: 2, PossibleDuplicates: 1,
	AcceptedAt: time.Date(2026, 11, 23, 10, 0, 0, 5e6, time.UTC),
	ChangedAt:  time.Date(2026, 11, 23, 11, 0, 0, 0, time.UTC), Deadline: true,
	Content:  request.Content{RedirectURL: "https://shop.example/done", ExpiryMinutes: 60, Metadata: []byte(`{"a":1}`)},
	Resolved: request.Defaults{WorkflowID: "w-1"},
	Outcome:  request.Outcome{Run: 3, Status: request.Created, LinkID: "L-1", URL: "https://simulator.invalid/L-1"},
	Past:     []request.Outcome{{Run: 2, Status: request.Failed, Reason: "timeout"}},
}

func openJournal(t testing.TB, out string) *Journal {
	t.Helper()
	j, err := Open(out, embedded, false)
	fixture.Must(t, err)
	return j
}

func closeJournal(t testing.TB, j *Journal) {
	t.Helper()
	if err := j.Close(); err != nil {
		t.Error(err)
	}
}

func add(t testing.TB, j *Journal, snapshots ...request.Record) {
	t.Helper()
	for _, s := range snapshots {
		fixture.Must(t, j.Write(t.Context(), encode(s)))
	}
}

func records(t testing.TB, j *Journal) []request.Record {
	t.Helper()
	return fixture.Collect(t, j.Records())
}

// encode returns a record as a worker gives it to a journal.
func encode(r request.Record) []byte {
	raw, err := json.Marshal(r.Snapshot())
	if err != nil {
		panic(err)
	}
	return raw
}

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func snap(id string, s request.State, attempts int) request.Record {
	return request.Record{ApplicationID: id, State: s, Lane: request.Bulk, Generation: 1, Run: 1, Attempts: attempts, AcceptedAt: noon, ChangedAt: noon}
}

func calling(id string) request.Record { return snap(id, request.Calling, 1) }
