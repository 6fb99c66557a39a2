package bulk

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/request"
)

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
	j, err := OpenJournal(out, embedded, false)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func closeJournal(t testing.TB, j *Journal) {
	t.Helper()
	if err := j.Close(); err != nil {
		t.Error(err)
	}
}

func add(t testing.TB, j *Journal, snapshots ...Snapshot) {
	t.Helper()
	for _, s := range snapshots {
		if err := j.Append(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
}

func records(t testing.TB, j *Journal) []request.Record {
	t.Helper()
	var all []request.Record
	for r, err := range j.Records() {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	return all
}

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func snap(id string, s request.State, attempts int) Snapshot {
	return Snapshot(request.Record{ApplicationID: id, State: s, Lane: request.Bulk, Generation: 1, Run: 1, Attempts: attempts, AcceptedAt: noon, ChangedAt: noon})
}

func calling(id string) Snapshot { return snap(id, request.Calling, 1) }

func TestJournalBytes(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out.csv")
	j := openJournal(t, out)
	add(t, j, Snapshot(full), calling("A-2"))
	closeJournal(t, j)
	want := embeddedLine +
		`{"record":{"application_id":"A-1","state":"created","lane":"bulk","generation":2,"run":3,"attempts":9,"spent":2,"possible_duplicates":1,` +
		`"accepted_at":"2026-11-23T10:00:00.005Z","changed_at":"2026-11-23T11:00:00Z","deadline":true,"content":{"redirect_url":"https://shop.example/done","expiry_minutes":60,"metadata":{"a":1}},` +
		`"frozen":{"workflow_id":"w-1"},"outcome":{"run":3,"status":"created","link_id":"L-1","url":"https://simulator.invalid/L-1"},` +
		`"past":[{"run":2,"status":"failed","reason":"timeout"}]}}` + "\n" +
		`{"record":{"application_id":"A-2","state":"calling","lane":"bulk","generation":1,"run":1,"attempts":1,"accepted_at":"2026-11-23T12:00:00Z","changed_at":"2026-11-23T12:00:00Z"}}` + "\n"
	if got := read(t, out+".journal"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := mode(t, out+".journal"); got != 0o600 {
		t.Errorf("mode %o", got)
	}
	if err := os.Chmod(out+".journal", 0o644); err != nil {
		t.Fatal(err)
	}
	j = openJournal(t, out)
	defer closeJournal(t, j)
	if got := mode(t, out+".journal"); got != 0o600 {
		t.Errorf("opened again with mode %o", got)
	}
	if got := records(t, j); !reflect.DeepEqual(got[0], full) {
		t.Errorf("read back:\n got %+v\nwant %+v", got[0], full)
	}
}

func TestRefusedJournal(t *testing.T) {
	for _, c := range []struct {
		name, journal, out string
		change             func(*Header)
		force              bool
		want               string
	}{
		{name: "fresh", journal: "-", out: "-"},
		{name: "going on", journal: embeddedLine, out: "rows"},
		{name: "another base URL", journal: embeddedLine, change: func(h *Header) { h.BaseURL = "https://other.example" }},
		{name: "upstream", journal: embeddedLine, change: func(h *Header) { h.Upstream = "real" },
			want: `was begun with the upstream "simulated", this run has "real"; go on as it was begun, or name another output`},
		{name: "account", journal: embeddedLine, change: func(h *Header) { h.Account = "b" },
			want: `was begun with the account "default", this run has "b"; go on as it was begun, or name another output`},
		{name: "OUT was moved", journal: embeddedLine, change: func(h *Header) { h.Batch = "run:out.csv:new" }},
		{name: "no batch", journal: strings.Replace(embeddedLine, `"batch":"run:/out.csv",`, "", 1), want: "names no batch"},
		{name: "a real Redis, in spite of force", journal: embeddedLine, change: func(h *Header) { h.Ledger = "an-id" }, force: true,
			want: `belongs to another ledger ("embedded", this run has "an-id")`},
		{name: "another or emptied Redis", journal: strings.Replace(embeddedLine, `"ledger":"embedded"`, `"ledger":"an-id"`, 1),
			change: func(h *Header) { h.Ledger = "another-id" },
			want: `belongs to another ledger ("an-id", this run has "another-id"): this is another Redis, or it was emptied, ` +
				`and it does not know which links were made. Set KYCLINK_REDIS_URL as it was when the journal was begun, ` +
				`or name another output to make links for all rows anew`},
		{name: "no ledger", journal: strings.Replace(embeddedLine, `"ledger":"embedded",`, "", 1), want: `belongs to another ledger`},
		{name: "version", journal: strings.Replace(embeddedLine, `"version":1`, `"version":2`, 1),
			want: "has version 2, this program reads version 1; go on with the program that began it"},
		{name: "something else", journal: "dear diary\n", want: "is no journal of kyclink; move it away, or name another output"},
		{name: "something else, no line break", journal: "dear diary", want: "is no journal of kyclink; move it away, or name another output"},
		{name: "OUT without it", journal: "-", out: "rows", want: "exists without its journal"},
		{name: "OUT with an empty one", journal: "", out: "rows", want: "exists without its journal"},
		{name: "OUT without it, forced", journal: "-", out: "rows", force: true},
		{name: "empty", journal: "", out: "-"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out.csv")
			for path, text := range map[string]string{out: c.out, out + ".journal": c.journal} {
				if text == "-" {
					continue
				}
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want := embedded
			if c.change != nil {
				c.change(&want)
			}
			j, err := OpenJournal(out, want, c.force)
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				if j.Batch() != embedded.Batch {
					t.Errorf("it belongs to the batch %q", j.Batch())
				}
				closeJournal(t, j)
				if got := read(t, out+".journal"); got != embeddedLine {
					t.Errorf("it holds %q", got)
				}
				return
			}
			var refused *OutputError
			if !errors.As(err, &refused) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %s", err, c.want)
			}
			if c.journal == "-" {
				if _, err := os.Stat(out + ".journal"); err == nil {
					t.Error("a refused run left a journal")
				}
			} else if got := read(t, out+".journal"); got != c.journal {
				t.Errorf("a refused run changed the journal to %q", got)
			}
		})
	}
}

// Another process has OUT: refused. It is killed: OUT is free at once, and what
// it appended is there.
func TestOtherProcess(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out.csv")
	other := otherRunCommand(t, out)
	stdout, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.StdinPipe(); err != nil { // open until it is killed
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	if said, _ := bufio.NewReader(stdout).ReadString('\n'); said != "ready\n" {
		t.Fatalf("the other run says %q", said)
	}
	_, err = OpenJournal(out, embedded, false)
	if err == nil || err.Error() != "output file "+out+" is being written by another run; wait for that run or stop it" {
		t.Errorf("two runs at once: %v", err)
	}
	if err := other.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = other.Wait()
	j := openJournal(t, out)
	defer closeJournal(t, j)
	if got := show(records(t, j)); got != "[A-1 created 1, A-2 calling 1]" {
		t.Errorf("after the kill: %s", got)
	}
	if said, err := otherRunCommand(t, out).Output(); err == nil || !strings.Contains(string(said), "is being written by another run") {
		t.Errorf("the other way round: %q, %v", said, err)
	}
}

// While one fsync runs, all others gather for the next.
func TestGroupCommit(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out.csv")
	j := openJournal(t, out)
	var syncs atomic.Int32
	entered, release := make(chan struct{}), make(chan struct{})
	j.sync = func() error {
		if syncs.Add(1) == 1 {
			close(entered)
			<-release
		}
		return j.file.Sync()
	}
	var appends sync.WaitGroup
	appends.Go(func() { add(t, j, calling("first")) })
	<-entered
	const n = 100
	for i := range n {
		appends.Go(func() { add(t, j, calling(fmt.Sprintf("A-%d", i))) })
	}
	for gathered := 0; gathered < n; {
		j.mu.Lock()
		gathered = bytes.Count(j.pending.lines, []byte("\n"))
		j.mu.Unlock()
	}
	if got := strings.Count(read(t, out+".journal"), "\n"); got != 2 {
		t.Errorf("%d lines written during the first fsync, want the header and one", got)
	}
	close(release)
	appends.Wait()
	if got := syncs.Load(); got != 2 {
		t.Errorf("%d fsyncs for %d records, want 2", got, n+1)
	}
	closeJournal(t, j)
	j = openJournal(t, out)
	defer closeJournal(t, j)
	if got := len(records(t, j)); got != n+1 {
		t.Errorf("%d records read back, want %d", got, n+1)
	}
}

// A record whose Append has returned was on the disk at an fsync.
func TestAppendIsDurable(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out.csv")
	j := openJournal(t, out)
	defer closeJournal(t, j)
	var durable atomic.Pointer[string]
	j.sync = func() error {
		text := read(t, out+".journal")
		durable.Store(&text)
		return nil
	}
	var appends sync.WaitGroup
	for i := range 50 {
		appends.Go(func() {
			for k := range 20 {
				id := fmt.Sprintf("A-%d-%d", i, k)
				add(t, j, calling(id))
				if !strings.Contains(*durable.Load(), `"`+id+`"`) {
					t.Errorf("%s returned before its fsync", id)
				}
			}
		})
	}
	appends.Wait()
}

func TestAppendThatFails(t *testing.T) {
	j := openJournal(t, filepath.Join(t.TempDir(), "out.csv"))
	failure := errors.New("disk full")
	j.sync = func() error { return failure }
	for range 2 { // the second does not even try: what the disk holds is unknown
		if err := j.Append(t.Context(), calling("A-1")); !errors.Is(err, failure) {
			t.Errorf("got %v", err)
		}
		j.sync = func() error { return nil }
	}
	closeJournal(t, j)
	if err := j.Append(t.Context(), calling("A-1")); !errors.Is(err, os.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestAppendGivenUp(t *testing.T) {
	j := openJournal(t, filepath.Join(t.TempDir(), "out.csv"))
	entered, release := make(chan struct{}), make(chan struct{})
	j.sync = func() error {
		entered <- struct{}{}
		<-release
		return nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan error)
	go func() { got <- j.Append(ctx, calling("A-1")) }()
	<-entered
	cancel()
	if err := <-got; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	close(release)
	closeJournal(t, j)
}

func TestCloseWritesWhatWaits(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out.csv")
	j := openJournal(t, out)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for i := range 100 {
		_ = j.Append(ctx, calling(fmt.Sprintf("A-%d", i)))
	}
	closeJournal(t, j)
	j = openJournal(t, out)
	defer closeJournal(t, j)
	if got := len(records(t, j)); got != 100 {
		t.Errorf("%d records, want 100", got)
	}
}
