// Package journal keeps the journal of a run: a file beside the output file from
// which an interrupted run continues, even after kill -9. With the embedded Redis the
// journal is the run's only durable record.
package journal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"

	"github.com/gofrs/flock"

	"github.com/kyclink/kyclink/internal/disk"
)

const version = 1

// Header says what a journal belongs to. A run continues a journal only with the same
// upstream, account and ledger.
type Header struct {
	Version  int    `json:"version"`  // set by [Open]
	Upstream string `json:"upstream"` // "real" or "simulated"
	Account  string `json:"account"`
	// Batch names the batch. A journal keeps the name that it was begun with, wherever
	// it and the output file are moved to. Journals of old versions have the output's
	// path at the time.
	Batch   string `json:"batch"`
	Ledger  string `json:"ledger"`   // "embedded", or the id of the ledger in a real Redis
	BaseURL string `json:"base_url"` // for people; not compared
}

// Error reports why a journal cannot be used, and what to do about it.
type Error struct {
	Op      string // "open", "read" or "write"
	Path    string // of the journal, or of the output file
	Problem string
	Err     error // the cause, if there is one
}

func (e *Error) Error() string {
	problem, advice, found := strings.Cut(e.Problem, "; ")
	text := e.Op + " " + e.Path + ": " + problem
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	if found {
		text += "; " + advice
	}
	return text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Fatal reports that a worker that meets this error must end: the next run would
// repeat a call that the journal does not show.
func (*Error) Fatal() bool { return true }

// Journal is the file OUT.journal beside the output file OUT: an append-only file of
// JSON lines. Only its owner can read it, as it holds links. While it is open, it and
// OUT are locked for other runs. With a real Redis it holds only its header.
type Journal struct {
	out  string
	file *os.File
	lock *flock.Flock
	head Header
	size int64        // of its complete lines when it was opened
	sync func() error // makes what was written durable

	wake    chan struct{} // lines are pending
	stopped chan struct{}

	mu      sync.Mutex
	pending *group
	failed  error // the first failure, after which the content on disk is unknown
	closed  bool
}

// group holds the lines that one fsync covers.
type group struct {
	lines []byte
	done  chan struct{} // closed once err is set
	err   error
}

func newGroup() *group { return &group{done: make(chan struct{})} }

// Open opens the journal of the output file out, or begins one with the header want.
// The error is an [*Error] if another process has it open; if it belongs to another
// upstream, account or ledger; and, unless force is given, if out exists without its
// journal: then it is unknown which links were made already.
func Open(out string, want Header, force bool) (*Journal, error) {
	j := &Journal{
		out: out, pending: newGroup(),
		wake: make(chan struct{}, 1), stopped: make(chan struct{}),
	}
	if err := j.checkOutput(force); err != nil {
		return nil, err
	}
	var err error
	if j.lock, err = lock(j.path()); err != nil {
		return nil, j.newError("it cannot be locked", err)
	}
	if j.lock == nil {
		return nil, &Error{Op: "open", Path: out, Problem: "another run is writing it; wait for that run or stop it"}
	}
	if err := j.begin(want); err != nil {
		return nil, errors.Join(err, j.release())
	}
	j.sync = j.file.Sync
	go j.commit()
	return j, nil
}

// Batch returns the name of the batch that the journal belongs to.
func (j *Journal) Batch() string { return j.head.Batch }

func (j *Journal) path() string { return j.out + ".journal" }

func (j *Journal) newError(problem string, err error) error {
	return &Error{Op: "open", Path: j.path(), Problem: problem, Err: cause(err)}
}

func (j *Journal) readError(problem string, err error) error {
	return &Error{Op: "read", Path: j.path(), Problem: problem, Err: cause(err)}
}

// cause removes the path from an error of the file system.
func cause(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// checkOutput refuses an output file without a journal.
func (j *Journal) checkOutput(force bool) error {
	// A run that was killed at its start may have left an empty journal.
	if info, err := os.Stat(j.path()); force || err == nil && info.Size() > 0 {
		return nil
	}
	_, err := os.Stat(j.out)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return &Error{Op: "open", Path: j.out, Problem: "not accessible; check its permissions", Err: cause(err)}
	}
	return &Error{Op: "open", Path: j.out, Problem: "it exists without its journal " + j.path() +
		"; restore the journal, name another output, or use --force to replace the file and make new links for all rows"}
}

// begin checks the header, or writes it, and removes an incomplete last line, which a
// killed run leaves.
func (j *Journal) begin(want Header) error {
	want.Version = version
	var err error
	if j.file, err = os.OpenFile(j.path(), os.O_RDWR|os.O_APPEND, 0); err != nil {
		return j.newError("not accessible; check its permissions", err)
	}
	if err := j.file.Chmod(0o600); err != nil {
		return j.newError("its mode cannot be changed", err)
	}
	first, err := j.measure()
	if err != nil {
		return j.readError("not readable", err)
	}
	if j.size > 0 {
		if err := j.compare(first, want); err != nil {
			return err
		}
	} else if !bytes.HasPrefix([]byte(headerStart), first[:min(len(first), len(headerStart))]) {
		return j.newError("not a journal of kyclink; move it away, or name another output", nil)
	}
	if err := j.file.Truncate(j.size); err != nil {
		return j.newError("its incomplete last line cannot be removed", err)
	}
	if j.size > 0 {
		return nil
	}
	j.head = want
	data, err := json.Marshal(entry{Header: &want})
	if err == nil {
		_, err = j.file.Write(append(data, '\n'))
	}
	if err == nil {
		err = errors.Join(j.file.Sync(), disk.SyncDirOf(j.path()))
	}
	if err != nil {
		return j.newError("its header cannot be written", err)
	}
	return nil
}

// compare refuses a header that differs from want.
func (j *Journal) compare(first []byte, want Header) error {
	var l entry
	if json.Unmarshal(first, &l) != nil || l.Header == nil {
		return j.newError("not a journal of kyclink; move it away, or name another output", nil)
	}
	have := *l.Header
	if have.Version != want.Version {
		return j.newError(fmt.Sprintf("it has version %d, and this program reads version %d; continue with the program that began it",
			have.Version, want.Version), nil)
	}
	for _, c := range []struct{ what, have, want string }{
		{"upstream", have.Upstream, want.Upstream},
		{"account", have.Account, want.Account},
	} {
		if c.have != c.want {
			return j.newError(fmt.Sprintf("it was begun with the %s %q, and this run has %q; continue as it was begun, or name another output",
				c.what, c.have, c.want), nil)
		}
	}
	if have.Ledger != want.Ledger {
		return j.newError(fmt.Sprintf("it belongs to another ledger (%q, and this run has %q): this is another Redis, or it was emptied, "+
			"and it does not know which links were made; set KYCLINK_REDIS_URL as it was when the journal was begun, "+
			"or name another output to make new links for all rows", have.Ledger, want.Ledger), nil)
	}
	if have.Batch == "" {
		return j.newError("it names no batch; restore the journal as it was", nil)
	}
	j.head = have
	return nil
}

// Write adds a record, a [request.Snapshot] as JSON, and returns when it is on the disk;
// one fsync serves all callers that wait. If ctx ends first, the record may still be written.
// After a failed write each Write fails with an [*Error], as the content on disk is
// unknown. It is safe for concurrent use.
func (j *Journal) Write(ctx context.Context, record []byte) error {
	j.mu.Lock()
	if err := j.unusable(); err != nil {
		j.mu.Unlock()
		return err
	}
	g := j.pending
	g.lines = append(append(append(g.lines, `{"record":`...), record...), "}\n"...)
	select {
	case j.wake <- struct{}{}:
	default:
	}
	j.mu.Unlock()
	select {
	case <-g.done:
		return g.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (j *Journal) unusable() error {
	if j.closed {
		return j.newError("it is closed", fs.ErrClosed)
	}
	return j.failed
}

// commit writes one group after the other until the journal is closed.
func (j *Journal) commit() {
	defer close(j.stopped)
	for range j.wake {
		j.mu.Lock()
		g := j.pending
		j.pending = newGroup()
		g.err = j.failed
		j.mu.Unlock()
		if g.err == nil && len(g.lines) > 0 {
			g.err = j.writeLines(g.lines)
		}
		close(g.done)
	}
}

func (j *Journal) writeLines(lines []byte) error {
	_, err := j.file.Write(lines)
	if err == nil {
		err = j.sync()
	}
	if err == nil {
		return nil
	}
	err = &Error{Op: "write", Path: j.path(), Problem: "failed; check its disk, then run again", Err: cause(err)}
	j.mu.Lock()
	j.failed = err
	j.mu.Unlock()
	return err
}

// Close writes the pending lines and unlocks the output file. It must be called once.
func (j *Journal) Close() error {
	j.mu.Lock()
	j.closed = true
	close(j.wake)
	j.mu.Unlock()
	<-j.stopped
	return j.release()
}

func (j *Journal) release() error {
	var err error
	if j.file != nil {
		err = j.file.Close()
	}
	return errors.Join(err, j.lock.Close())
}

// lock locks a journal; it returns nil if another process holds the lock. The lock is
// on the journal itself, which is never replaced nor removed: the kernel releases it
// with the process, so that no stale lock file can remain.
func lock(path string) (*flock.Flock, error) {
	l := flock.New(path, flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o600))
	held, err := l.TryLock()
	if err != nil || !held {
		return nil, err
	}
	return l, nil
}
