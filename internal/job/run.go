package job

import (
	"context"
	"errors"
	"path/filepath"
	"sync"

	"github.com/kyclink/kyclink/internal/journal"
)

// Worker makes the links of a run.
type Worker interface {
	Run(ctx context.Context) error
}

// Run is one run of a job, from its journal to its output file.
type Run struct {
	Job    *Job
	Out    string
	Header journal.Header // of a new journal
	// Force replaces an output file that has no journal.
	Force bool
	// OnScan is called before any row is accepted.
	OnScan func(Scan)
	// NewWorker returns the worker; it is called when the journal is open and the
	// job's batch is known.
	NewWorker func(ctx context.Context, log *journal.Journal) (Worker, error)
	Watch     WatchConfig
}

// Report is the result of a run.
type Report struct {
	Progress Progress
	Scan     Scan
	Written  Written
	// Err is nil if all requests have ended or are held; [ErrImpatient], or a
	// [*RowsRefusedError].
	Err error
	// Why describes what prevented links, after [ErrImpatient].
	Why string
}

// Do does the work and writes the output file, also if not every request has ended. Its
// error says why there is no new output file; the report then has the progress only.
func (r *Run) Do(ctx context.Context) (report Report, err error) {
	if report.Scan, err = r.Job.Scan(filepath.Dir(r.Out)); err != nil {
		return report, err
	}
	log, err := journal.Open(r.Out, r.Header, r.Force)
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	r.Job.Batch = log.Batch()
	r.OnScan(report.Scan)
	worker, err := r.NewWorker(ctx, log)
	if err != nil {
		return report, err
	}
	watch, err := newWatch(ctx, r.Watch, r.Job.Batch)
	if err == nil {
		err = watch.resumeBatch(ctx)
	}
	if err != nil {
		return report, err
	}
	report.Progress, report.Err = r.work(ctx, worker, watch)
	_, rowsRefused := errors.AsType[*RowsRefusedError](report.Err)
	if report.Err != nil && !rowsRefused && !errors.Is(report.Err, ErrImpatient) {
		return report, report.Err
	}
	if report.Written, err = r.Job.Write(ctx, r.Out); err == nil && errors.Is(report.Err, ErrImpatient) {
		report.Why = watch.why(ctx, report.Written.Open)
	}
	return report, err
}

// work runs the job, the worker and the watch, and returns when all have ended.
func (r *Run) work(ctx context.Context, worker Worker, watch *watch) (Progress, error) {
	working, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var group sync.WaitGroup
	var failed, hopeless error
	group.Go(func() {
		if failed = worker.Run(working); failed != nil {
			stop(failed)
		}
	})
	group.Go(func() {
		if hopeless = watch.run(working); hopeless != nil {
			stop(hopeless)
		}
	})
	progress, err := r.Job.Work(working)
	stop(nil)
	group.Wait()
	if failed != nil {
		return progress, failed // which ended the job, too
	}
	if hopeless != nil && !errors.Is(err, ErrImpatient) {
		return progress, hopeless
	}
	return progress, err
}
