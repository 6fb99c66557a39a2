package job

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/diagnosis"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/storage"
	"github.com/kyclink/kyclink/tasks"
)

// WatchConfig configures the watch of a run.
type WatchConfig struct {
	Redis      redis.UniversalClient
	Stores     *storage.Stores
	Credential string // fingerprint of the account's credentials
	// OnObstacle is called every second with what prevents new links, in a few words, or ""
	// if nothing does; and with the state of the gate.
	OnObstacle func(obstacle, gate string)
	// OnMessage is called when an obstacle persists, and when it is gone.
	OnMessage func(message string)
}

// situation is what a watch read last.
type situation struct {
	diagnosis.Snapshot
	accepted *batch.Batch // nil before the first row was accepted
}

// diagnosis says whether links are created and, if not, why.
func (s situation) diagnosis() diagnosis.Diagnosis {
	if s.accepted == nil {
		return diagnosis.Account(s.Snapshot)
	}
	return diagnosis.Batch(s.Snapshot, *s.accepted)
}

// why describes what prevents links, in one sentence.
func (s situation) why() string { return s.diagnosis().String() }

// watch finds out why a run gets no links, and ends one that cannot get any.
type watch struct {
	WatchConfig
	batch string
	begun time.Time // by Redis' clock

	mu      sync.Mutex
	last    situation
	notices notices
}

const watchPause = time.Second // between two diagnoses

func newWatch(ctx context.Context, cfg WatchConfig, batch string) (*watch, error) {
	now, err := cfg.Stores.Keys.Clock(ctx, cfg.Redis).Time()
	if err != nil {
		return nil, fmt.Errorf("read the time: %w", err)
	}
	return &watch{WatchConfig: cfg, batch: batch, begun: now}, nil
}

// run watches until ctx ends. Its error says why the run cannot continue; other errors
// are left to the job, which meets and retries them, too.
func (w *watch) run(ctx context.Context) error {
	tick := time.NewTicker(watchPause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		s, err := w.diagnose(ctx)
		if err != nil {
			continue
		}
		if err := w.hopeless(ctx, s); err != nil {
			return err
		}
		obstacle := obstacleIn(s)
		w.OnObstacle(obstacle, s.Gate.State)
		if message := w.notices.next(time.Now(), obstacle, s.why); message != "" {
			w.OnMessage(message)
		}
	}
}

func (w *watch) diagnose(ctx context.Context) (s situation, err error) {
	if s.Snapshot, err = w.reader().Snapshot(ctx); err != nil {
		return s, err
	}
	b, ok, err := w.Stores.Batches.ByName(ctx, w.batch)
	if ok {
		s.accepted = &b
	}
	if err == nil {
		w.mu.Lock()
		w.last = s
		w.mu.Unlock()
	}
	return s, err
}

// hopeless returns the error of a run that cannot continue without a person. Refused credentials count only
// before the batch's first link, as later they may be those of a rollout, and only by
// an answer that came since the run began, as an earlier one may be out of date.
func (w *watch) hopeless(ctx context.Context, s situation) error {
	if s.accepted != nil && s.accepted.RefusedMessage() != "" {
		return &RowsRefusedError{s.accepted.RefusedMessage(), s.accepted.Counts[request.Waiting] + s.accepted.Counts[request.Queued]}
	}
	if s.Gate.State != "closed" && s.Gate.State != "probing" || s.Gate.Reason != string(fault.Refused) {
		return nil
	}
	if s.accepted != nil && s.accepted.Counts[request.Created] > 0 {
		return nil
	}
	status, err := admission.Read(ctx, w.Redis, w.Stores.Keys)
	if err != nil {
		return nil //nolint:nilerr // the next diagnosis reads it again
	}
	for _, r := range status.Refused {
		if r.Credential == w.Credential && !r.MessageAt.Before(w.begun) {
			return &refusedError{r.Message}
		}
	}
	return nil
}

// refusedError reports that FaceKi refuses the credentials.
type refusedError struct{ message string }

func (e *refusedError) Error() string {
	foreign := fault.Fault{Kind: fault.NotFaceKi}
	if strings.HasPrefix(e.message, foreign.Means()) { // it says what to check, which is not the credentials
		return e.message + ". Correct that, then run the same command again"
	}
	return cmp.Or(e.message, "FaceKi refuses the account's credentials") +
		": check FACEKI_CLIENT_ID and FACEKI_CLIENT_SECRET, then run the same command again"
}

// RowsRefusedError reports that FaceKi refuses one row after the other as wrong.
type RowsRefusedError struct {
	why  string
	open int
}

func (e *RowsRefusedError) Error() string {
	open := "1 row was"
	if e.open != 1 {
		open = fmt.Sprintf("%d rows were", e.open)
	}
	return fmt.Sprintf("stopped, because %s; %s not called. Correct the setting or the rows that are wrong, then run the same command again, "+
		"with --retry-failed for the rows that failed", e.why, open)
}

// resumeBatch resumes a batch that was paused because its rows were refused as wrong:
// the person who runs the command again has corrected that.
func (w *watch) resumeBatch(ctx context.Context) error {
	b, ok, err := w.Stores.Batches.ByName(ctx, w.batch)
	if ok && b.RefusedMessage() != "" {
		err = w.Stores.Batches.Control(ctx, b, batch.Resume)
	}
	return err
}

// why describes what prevented the link of an open request while there was a worker.
func (w *watch) why(ctx context.Context, open tasks.Link) string {
	w.mu.Lock()
	s := w.last
	w.mu.Unlock()
	if s.Account == "" { // there was no diagnosis yet
		return ""
	}
	if open.ApplicationID != "" {
		if state, err := w.reader().Request(ctx, s.Snapshot, open); err == nil {
			return diagnosis.Request(s.Snapshot, state).String()
		}
	}
	return s.why()
}

func (w *watch) reader() *diagnosis.Reader { return diagnosis.NewReader(w.Redis, w.Stores) }

// obstacleIn describes what prevents new links, in a few words; "" if nothing does.
func obstacleIn(s situation) string {
	d := s.diagnosis()
	if !d.Code.PreventsCalls() {
		return ""
	}
	return string(d.State) + ": " + d.Code.Words()
}
