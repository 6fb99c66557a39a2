package bulk

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"github.com/kyclink/kyclink/internal/request"

	"github.com/gofrs/flock"
)

const journalVersion = 1

// Header says what a journal belongs to. A journal goes on only for the same
// upstream, account and ledger.
type Header struct {
	Version  int    `json:"version"`  // set by [OpenJournal]
	Upstream string `json:"upstream"` // "real" or "simulated"
	Account  string `json:"account"`
	// Batch names the batch. A journal keeps the name that it was begun with,
	// wherever it and OUT are moved to; older ones have OUT's path at the time.
	Batch   string `json:"batch"`
	Ledger  string `json:"ledger"`   // "embedded", or the id of the ledger in a real Redis
	BaseURL string `json:"base_url"` // for people; it is not compared
}

// Journal is OUT.journal: an append-only file of JSON lines, readable for its
// owner only, as it holds links. While it is open it is locked, and OUT with
// it. With the embedded Redis it is the record of the run; with a real one it
// holds its header only.
type Journal struct {
	out  string
	file *os.File
	lock *flock.Flock
	head Header
	size int64        // what was there when it was opened, in whole lines
	sync func() error // makes what was written last

	wake    chan struct{} // something is pending
	stopped chan struct{}

	mu      sync.Mutex
	pending *group
	failed  error // the first failure; the disk's state is unknown from then on
	closed  bool
}

// group is the lines that one fsync covers.
type group struct {
	lines []byte
	done  chan struct{} // closed when err is set
	err   error
}

func newGroup() *group { return &group{done: make(chan struct{})} }

// OpenJournal opens the journal of OUT, or begins it with want as its header. It
// refuses with an [*OutputError] when another process has it open, when it belongs
// to another upstream, account or ledger than want, and, unless force is given, when OUT is there but
// its journal is not: then nobody knows which links were made already.
func OpenJournal(out string, want Header, force bool) (*Journal, error) {
	j := &Journal{
		out: out, pending: newGroup(),
		wake: make(chan struct{}, 1), stopped: make(chan struct{}),
	}
	if err := j.refuseOrphan(force); err != nil {
		return nil, err
	}
	var err error
	if j.lock, err = lock(j.path()); err != nil {
		return nil, j.trouble("cannot be locked", err)
	}
	if j.lock == nil {
		return nil, &OutputError{Path: out, Problem: "is being written by another run; wait for that run or stop it"}
	}
	if err := j.begin(want); err != nil {
		return nil, errors.Join(err, j.release())
	}
	j.sync = j.file.Sync
	go j.commit()
	return j, nil
}

// Batch is the name of the batch that the journal belongs to.
func (j *Journal) Batch() string { return j.head.Batch }

func (j *Journal) path() string { return j.out + ".journal" }

func (j *Journal) trouble(problem string, err error) error {
	return &OutputError{Path: j.path(), Problem: problem, Err: cause(err)}
}

func (j *Journal) refuseOrphan(force bool) error {
	// An empty one was created by a run that was killed in the next moment.
	if info, err := os.Stat(j.path()); force || err == nil && info.Size() > 0 {
		return nil
	}
	_, err := os.Stat(j.out)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return &OutputError{Path: j.out, Problem: "cannot be looked at; check its permissions", Err: cause(err)}
	}
	return &OutputError{Path: j.out, Problem: "exists without its journal " + j.path() +
		": put the journal back, name another output, or use --force to replace it and to make links for all rows anew"}
}

// begin checks the header, or writes it, and cuts off a line that was being
// written when its run was killed.
func (j *Journal) begin(want Header) error {
	want.Version = journalVersion
	var err error
	if j.file, err = os.OpenFile(j.path(), os.O_RDWR|os.O_APPEND, 0); err != nil {
		return j.trouble("cannot be opened; check its permissions", err)
	}
	if err := j.file.Chmod(0o600); err != nil {
		return j.trouble("cannot be made private", err)
	}
	first, err := j.measure()
	if err != nil {
		return j.trouble("cannot be read", err)
	}
	if j.size > 0 {
		if err := j.compare(first, want); err != nil {
			return err
		}
	} else if !bytes.HasPrefix([]byte(headerStart), first[:min(len(first), len(headerStart))]) {
		return j.trouble("is no journal of kyclink; move it away, or name another output", nil)
	}
	if err := j.file.Truncate(j.size); err != nil {
		return j.trouble("cannot be repaired", err)
	}
	if j.size > 0 {
		return nil
	}
	j.head = want
	data, err := json.Marshal(line{Header: &want})
	if err == nil {
		_, err = j.file.Write(append(data, '\n'))
	}
	if err == nil {
		err = errors.Join(j.file.Sync(), syncDir(j.path()))
	}
	if err != nil {
		return j.trouble("cannot be begun", err)
	}
	return nil
}

// compare reads the header, and refuses one that belongs to something else than
// want.
func (j *Journal) compare(first []byte, want Header) error {
	var l line
	if json.Unmarshal(first, &l) != nil || l.Header == nil {
		return j.trouble("is no journal of kyclink; move it away, or name another output", nil)
	}
	have := *l.Header
	if have.Version != want.Version {
		return j.trouble(fmt.Sprintf("has version %d, this program reads version %d; go on with the program that began it",
			have.Version, want.Version), nil)
	}
	for _, c := range []struct{ what, have, want string }{
		{"upstream", have.Upstream, want.Upstream},
		{"account", have.Account, want.Account},
	} {
		if c.have != c.want {
			return j.trouble(fmt.Sprintf("was begun with the %s %q, this run has %q; go on as it was begun, or name another output",
				c.what, c.have, c.want), nil)
		}
	}
	if have.Ledger != want.Ledger {
		return j.trouble(fmt.Sprintf("belongs to another ledger (%q, this run has %q): this is another Redis, or it was emptied, "+
			"and it does not know which links were made. Set KYCLINK_REDIS_URL as it was when the journal was begun, "+
			"or name another output to make links for all rows anew", have.Ledger, want.Ledger), nil)
	}
	if have.Batch == "" {
		return j.trouble("names no batch; put back the journal as it was", nil)
	}
	j.head = have
	return nil
}

// Write adds the record of a request, like [Journal.Append].
func (j *Journal) Write(ctx context.Context, r request.Record) error {
	return j.Append(ctx, Snapshot(r))
}

// Append adds a snapshot and returns when it is on the disk; one fsync serves
// all that wait. When ctx ends first, it may still get there. After a write has
// failed every Append fails, with an [*OutputError], as nobody knows what the
// disk holds. It is safe for concurrent use.
func (j *Journal) Append(ctx context.Context, s Snapshot) error {
	data, err := json.Marshal(s.line())
	if err != nil {
		return j.trouble("cannot hold a record", err)
	}
	j.mu.Lock()
	if err := j.unusable(); err != nil {
		j.mu.Unlock()
		return err
	}
	g := j.pending
	g.lines = append(append(g.lines, data...), '\n')
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
		return j.trouble("is closed", fs.ErrClosed)
	}
	return j.failed
}

// commit writes group after group until the journal is closed.
func (j *Journal) commit() {
	defer close(j.stopped)
	for range j.wake {
		j.mu.Lock()
		g := j.pending
		j.pending = newGroup()
		g.err = j.failed
		j.mu.Unlock()
		if g.err == nil && len(g.lines) > 0 {
			g.err = j.write(g.lines)
		}
		close(g.done)
	}
}

func (j *Journal) write(lines []byte) error {
	_, err := j.file.Write(lines)
	if err == nil {
		err = j.sync()
	}
	if err == nil {
		return nil
	}
	err = j.trouble("cannot be written; check its disk, then run again", err)
	j.mu.Lock()
	j.failed = err
	j.mu.Unlock()
	return err
}

// Close writes what waits, and lets OUT go. It must be called once.
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
