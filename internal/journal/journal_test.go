package journal

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

	"github.com/kyclink/kyclink/internal/fixture"
)

func TestJournal_KeepsItsFormatAndMode(t *testing.T) {
	t.Parallel()
	out := filepath.Join(t.TempDir(), "out.csv")
	j := openJournal(t, out)
	add(t, j, full, calling("A-2"))
	closeJournal(t, j)
	want := embeddedLine +
		`{"record":{"application_id":"A-1","state":"created","lane":"bulk","generation":2,"run":3,"attempts":9,"spent":2,"possible_duplicates":1,` +
		`"accepted_at":"2026-11-23T10:00:00.005Z","changed_at":"2026-11-23T11:00:00Z","deadline":true,"content":{"redirect_url":"https://shop.example/done","expiry_minutes":60,"metadata":{"a":1}},` +
		`"frozen":{"workflow_id":"w-1"},"outcome":{"run":3,"status":"created","link_id":"L-1","url":"https://simulator.invalid/L-1"},` +
		`"past":[{"run":2,"status":"failed","reason":"timeout"}]}}` + "\n" +
		`{"record":{"application_id":"A-2","state":"calling","lane":"bulk","generation":1,"run":1,"attempts":1,"accepted_at":"2026-11-23T12:00:00Z","changed_at":"2026-11-23T12:00:00Z"}}` + "\n"
	if got := fixture.Read(t, out+".journal"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := fixture.Mode(t, out+".journal"); got != 0o600 {
		t.Errorf("got mode %o, want 600", got)
	}
	if err := os.Chmod(out+".journal", 0o644); err != nil {
		t.Fatal(err)
	}
	j = openJournal(t, out)
	defer closeJournal(t, j)
	if got := fixture.Mode(t, out+".journal"); got != 0o600 {
		t.Errorf("opened again: got mode %o, want 600", got)
	}
	if got := records(t, j); !reflect.DeepEqual(got[0], full) {
		t.Errorf("read back:\n got %+v\nwant %+v", got[0], full)
	}
}

func TestOpen_RefusesForeignJournals(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, journal, out string
		change             func(*Header)
		force              bool
		want               string
	}{
		{name: "fresh", journal: "-", out: "-"},
		{name: "continued", journal: embeddedLine, out: "rows"},
		{name: "another base URL", journal: embeddedLine, change: func(h *Header) { h.BaseURL = "https://other.example" }},
		{name: "upstream", journal: embeddedLine, change: func(h *Header) { h.Upstream = "real" },
			want: `it was begun with the upstream "simulated", and this run has "real"; continue as it was begun, or name another output`},
		{name: "account", journal: embeddedLine, change: func(h *Header) { h.Account = "b" },
			want: `it was begun with the account "default", and this run has "b"; continue as it was begun, or name another output`},
		{name: "OUT was moved", journal: embeddedLine, change: func(h *Header) { h.Batch = "run:out.csv:new" }},
		{name: "no batch", journal: strings.Replace(embeddedLine, `"batch":"run:/out.csv",`, "", 1), want: "it names no batch"},
		{name: "a real Redis, forced", journal: embeddedLine, change: func(h *Header) { h.Ledger = "an-id" }, force: true,
			want: `it belongs to another ledger ("embedded", and this run has "an-id")`},
		{name: "another or emptied Redis", journal: strings.Replace(embeddedLine, `"ledger":"embedded"`, `"ledger":"an-id"`, 1),
			change: func(h *Header) { h.Ledger = "another-id" },
			want: `it belongs to another ledger ("an-id", and this run has "another-id"): this is another Redis, or it was emptied, ` +
				`and it does not know which links were made; set KYCLINK_REDIS_URL as it was when the journal was begun, ` +
				`or name another output to make new links for all rows`},
		{name: "no ledger", journal: strings.Replace(embeddedLine, `"ledger":"embedded",`, "", 1), want: `it belongs to another ledger`},
		{name: "version", journal: strings.Replace(embeddedLine, `"version":1`, `"version":2`, 1),
			want: "it has version 2, and this program reads version 1; continue with the program that began it"},
		{name: "another file", journal: "dear diary\n", want: "not a journal of kyclink; move it away, or name another output"},
		{name: "another file, no line break", journal: "dear diary", want: "not a journal of kyclink; move it away, or name another output"},
		{name: "OUT without a journal", journal: "-", out: "rows", want: "it exists without its journal"},
		{name: "OUT with an empty journal", journal: "", out: "rows", want: "it exists without its journal"},
		{name: "OUT without a journal, forced", journal: "-", out: "rows", force: true},
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
			j, err := Open(out, want, c.force)
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				if j.Batch() != embedded.Batch {
					t.Errorf("got batch %q, want %q", j.Batch(), embedded.Batch)
				}
				closeJournal(t, j)
				if got := fixture.Read(t, out+".journal"); got != embeddedLine {
					t.Errorf("got journal %q, want only its header", got)
				}
				return
			}
			var refused *Error
			if !errors.As(err, &refused) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %s", err, c.want)
			}
			if c.journal == "-" {
				if _, err := os.Stat(out + ".journal"); err == nil {
					t.Error("a refused run left a journal")
				}
			} else if got := fixture.Read(t, out+".journal"); got != c.journal {
				t.Errorf("a refused run changed the journal to %q", got)
			}
		})
	}
}

// After the other process is killed, OUT can be opened at once, and has its records.
func TestOpen_ExcludesOtherProcesses(t *testing.T) {
	t.Parallel()
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
	if line, _ := bufio.NewReader(stdout).ReadString('\n'); line != "ready\n" {
		t.Fatalf("the other run printed %q, want ready", line)
	}
	_, err = Open(out, embedded, false)
	if err == nil || err.Error() != "open "+out+": another run is writing it; wait for that run or stop it" {
		t.Errorf("while the other run has OUT: got %v", err)
	}
	if err := other.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = other.Wait()
	j := openJournal(t, out)
	defer closeJournal(t, j)
	if got := show(records(t, j)); got != "[A-1 created 1, A-2 calling 1]" {
		t.Errorf("after the kill: got records %s", got)
	}
	if text, err := otherRunCommand(t, out).Output(); err == nil || !strings.Contains(string(text), "another run is writing it") {
		t.Errorf("another run while this process has OUT: got %q, %v", text, err)
	}
}

// Records that are written during an fsync share the next one.
func TestWrite_SharesAnFsync(t *testing.T) {
	t.Parallel()
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
	fixture.Eventually(t, "all records are pending", func() bool {
		j.mu.Lock()
		defer j.mu.Unlock()
		return bytes.Count(j.pending.lines, []byte("\n")) == n
	})
	if got := strings.Count(fixture.Read(t, out+".journal"), "\n"); got != 2 {
		t.Errorf("%d lines were written during the first fsync, want the header and one", got)
	}
	close(release)
	appends.Wait()
	if got := syncs.Load(); got != 2 {
		t.Errorf("got %d fsyncs for %d records, want 2", got, n+1)
	}
	closeJournal(t, j)
	j = openJournal(t, out)
	defer closeJournal(t, j)
	if got := len(records(t, j)); got != n+1 {
		t.Errorf("got %d records after reopening, want %d", got, n+1)
	}
}

// The file contains a record at an fsync that ends before its Write returns.
func TestWrite_ReturnsAfterAnFsync(t *testing.T) {
	t.Parallel()
	out := filepath.Join(t.TempDir(), "out.csv")
	j := openJournal(t, out)
	defer closeJournal(t, j)
	var durable atomic.Pointer[string]
	j.sync = func() error {
		text := fixture.Read(t, out+".journal")
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
					t.Errorf("the write of %s returned before an fsync", id)
				}
			}
		})
	}
	appends.Wait()
}

func TestWrite_FailsForGoodAfterAFailure(t *testing.T) {
	t.Parallel()
	j := openJournal(t, filepath.Join(t.TempDir(), "out.csv"))
	failure := errors.New("disk full")
	j.sync = func() error { return failure }
	for range 2 { // the second write does not call fsync: the content of the disk is unknown
		if err := j.Write(t.Context(), encode(calling("A-1"))); !errors.Is(err, failure) {
			t.Errorf("got %v, want the failure of the first write", err)
		}
		j.sync = func() error { return nil }
	}
	closeJournal(t, j)
	if err := j.Write(t.Context(), encode(calling("A-1"))); !errors.Is(err, os.ErrClosed) {
		t.Errorf("write after Close: got %v, want os.ErrClosed", err)
	}
}

func TestWrite_ReturnsWhenItsContextEnds(t *testing.T) {
	t.Parallel()
	j := openJournal(t, filepath.Join(t.TempDir(), "out.csv"))
	entered, release := make(chan struct{}), make(chan struct{})
	j.sync = func() error {
		entered <- struct{}{}
		<-release
		return nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan error)
	go func() { got <- j.Write(ctx, encode(calling("A-1"))) }()
	<-entered
	cancel()
	if err := <-got; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	close(release)
	closeJournal(t, j)
}

func TestClose_WritesPendingRecords(t *testing.T) {
	t.Parallel()
	out := filepath.Join(t.TempDir(), "out.csv")
	j := openJournal(t, out)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for i := range 100 {
		_ = j.Write(ctx, encode(calling(fmt.Sprintf("A-%d", i))))
	}
	closeJournal(t, j)
	j = openJournal(t, out)
	defer closeJournal(t, j)
	if got := len(records(t, j)); got != 100 {
		t.Errorf("got %d records, want 100", got)
	}
}
