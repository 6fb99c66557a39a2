package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/config"
	"github.com/kyclink/kyclink/internal/input"
	"github.com/kyclink/kyclink/internal/job"
	"github.com/kyclink/kyclink/internal/journal"
	"github.com/kyclink/kyclink/internal/output"
	"github.com/kyclink/kyclink/worker"
)

type runOptions struct {
	out                    string
	retryFailed, retryHeld bool
	force, simulate, renew bool
	spreadsheet            bool
	patience               time.Duration
	readingFlags
}

func newRun() *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:   "run FILE -o OUT",
		Short: "Create a link for every row of a file, in one process",
		Long: `Create a link for every row of FILE, which is a CSV, .xlsx or NDJSON file. Write the same
rows in the same order to OUT, with the columns status, link_id, url, expires_at, reason,
attempts and possible_duplicates.

The header names the keys of a request, regardless of case, spaces, _ and -. Other
columns are carried over. The columns in use are printed before the first call. A column
whose name resembles a key is an error unless --carry names it.

To continue an interrupted run, even after kill -9, run the same command again: FaceKi is
not called again for rows that are finished. This needs the journal, OUT.journal; move or
rename the two files together.

Failed rows are retried with --retry-failed. A held row may have a link that only
FaceKi's console shows; --retry-held retries held rows, which may bill a second link for
each.

FILE may be the OUT of another run: rows with the status created and a URL keep their
link unless --again is given. Rows with the same ID share one link; the summary lists
them.

Without KYCLINK_REDIS_URL, the run uses an embedded Redis in this process. With
--simulate, for trials, links come from a simulator instead of FaceKi.

Exit codes: 0 every row has a link, 2 some rows have none, 3 no link was created for the
time of --patience.`,
		Example: `  kyclink run people.csv -o links.csv --simulate
  FACEKI_CLIENT_ID=… FACEKI_CLIENT_SECRET_FILE=secret.txt kyclink run people.csv -o links.csv`,
		Args: one("an input file"),
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args[0]) },
	}
	cmd.Flags().StringVarP(&o.out, "output", "o", "", "write to the file `OUT` (required): .csv, .xlsx or .ndjson; in FILE's format if it has no suffix")
	o.add(cmd)
	cmd.Flags().BoolVar(&o.retryFailed, "retry-failed", false, "retry rows that failed in an earlier run")
	cmd.Flags().BoolVar(&o.retryHeld, "retry-held", false, "retry held rows; each may create and bill a second link")
	cmd.Flags().BoolVar(&o.renew, "again", false, "also create new links for rows that already have one in FILE")
	cmd.Flags().BoolVar(&o.spreadsheet, "spreadsheet", false, spreadsheetHelp)
	cmd.Flags().BoolVar(&o.force, "force", false, "replace OUT even if it has no journal; rows may get a second link")
	cmd.Flags().BoolVar(&o.simulate, "simulate", false, "create simulated links, with the simulator at FACEKI_BASE_URL or one in this process")
	cmd.Flags().DurationVar(&o.patience, "patience", 30*time.Minute, "stop waiting if no link is created for this `DURATION`")
	return cmd
}

func (o runOptions) run(cmd *cobra.Command, file string) (err error) {
	ctx := cmd.Context()
	var reached job.Progress
	var note string
	defer func() { err = noted(interrupted(ctx, err, reached), note) }()
	out, err := o.target(cmd)
	if err != nil {
		return err
	}
	options, err := o.reading(cmd)
	if err != nil {
		return err
	}
	cfg, err := config.Load(os.Environ(), config.Needs{FaceKi: true, Simulate: o.simulate, Terminal: onTerminal()})
	if err != nil {
		return err
	}
	in, err := input.Open(file, options)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	found, err := output.Inspect(out, in)
	if err != nil {
		return err
	}
	if err := output.Check(out, in); err != nil {
		return err
	}
	printMapping(cmd.ErrOrStderr(), in, "carried over")
	printInspection(cmd.ErrOrStderr(), found)
	bar := newProgress(os.Stderr, onTerminal())
	defer bar.stop()
	e, err := openEngine(ctx, cfg, runLogger(cfg, bar))
	if err != nil {
		return err
	}
	defer e.close()
	announce(bar, e.cfg)
	note = simulatedNote(e.cfg)

	reached, err = o.work(cmd, e, in, bar, out)
	return err
}

// work runs the job and reports what the output file contains.
func (o runOptions) work(cmd *cobra.Command, e *engine, in *input.File, bar *progress, out string) (job.Progress, error) {
	ctx := cmd.Context()
	j, err := o.job(ctx, e, in, bar)
	if err != nil {
		return job.Progress{}, err
	}
	stopNotice := func() bool { return false }
	run := job.Run{
		Job: j, Out: out, Header: o.header(e, j, out), Force: o.force,
		OnScan: func(s job.Scan) {
			if s.Linked > 0 {
				fmt.Fprintf(bar, "kyclink: %s of FILE already %s a link and %s it; --again creates new ones\n",
					number(s.Linked, "row"), verb(s.Linked, "has", "have"), verb(s.Linked, "keeps", "keep"))
			}
		},
		NewWorker: func(ctx context.Context, log *journal.Journal) (job.Worker, error) {
			w, err := e.newWorker(ctx, workerJournal(e, j, log), nil)
			if err != nil {
				return nil, err
			}
			stopNotice = context.AfterFunc(ctx, func() {
				bar.stop()
				fmt.Fprintln(bar, "kyclink: stopping: draining in-flight calls; interrupt again to stop at once")
			})
			return w, o.audit(ctx, e, j.Batch)
		},
		Watch: job.WatchConfig{
			Redis: e.rdb, Stores: e.stores, Credential: e.cfg.FaceKi.Fingerprint(), OnObstacle: bar.waits,
			OnMessage: func(message string) { fmt.Fprintf(bar, "kyclink: %s\n", message) },
		},
	}
	report, err := run.Do(ctx)
	stopNotice()
	bar.stop()
	if err != nil {
		return report.Progress, err
	}
	return report.Progress, o.report(cmd.ErrOrStderr(), report, simulatedNote(e.cfg))
}

// audit records the run in a shared Redis. It is called when the process has joined the
// account: a process that is refused must change nothing.
func (o runOptions) audit(ctx context.Context, e *engine, batch string) error {
	if e.cfg.EmbeddedRedis() {
		return nil
	}
	return e.audit(ctx, "batches.run", batch)
}

// target checks the flags, and returns the file to write.
func (o runOptions) target(cmd *cobra.Command) (string, error) {
	switch {
	case o.out == "":
		return "", usageError(cmd, errors.New("-o is required; name the file for the links with -o OUT"))
	case output.IsStandardStream(o.out):
		return "", usageError(cmd, fmt.Errorf("-o %s: OUT must be a file, because it is replaced when it is complete and has a journal beside it; "+
			"name a file, and print it afterwards", o.out))
	case output.CheckName(o.out) != nil:
		return "", usageError(cmd, fmt.Errorf("-o: %w", output.CheckName(o.out)))
	case o.patience <= 0:
		return "", usageError(cmd, errors.New("--patience must be a positive duration, such as 30m"))
	case strings.ContainsFunc(o.out, unicode.IsControl):
		return "", usageError(cmd, fmt.Errorf("-o: the path %q contains a line break or another control character; name another file", o.out))
	}
	return output.Resolve(o.out)
}

// job returns the job without its journal and batch.
func (o runOptions) job(ctx context.Context, e *engine, in *input.File, bar *progress) (*job.Job, error) {
	j := &job.Job{
		Input: in, Stores: e.stores, RetryFailed: o.retryFailed, RetryHeld: o.retryHeld, IgnoreLinks: o.renew, Spreadsheet: o.spreadsheet,
		Simulated: e.cfg.FaceKi.Simulated, Patience: o.patience, OnProgress: bar.report,
		OnRetryHeld: func(held int) {
			fmt.Fprintf(bar, "kyclink: --retry-held: retrying %s; up to %s more may be created and billed\n",
				number(held, "held row"), number(held, "link"))
		},
		OnRedisError: func(err error) {
			e.log.Warn("Redis failed; retrying", zap.Duration("at_most", o.patience), zap.Error(err))
		},
	}
	j.Client = e.producer(j.OnFull)
	var err error
	if !e.cfg.EmbeddedRedis() {
		j.LedgerID, err = e.stores.Fleet.ID(ctx)
	}
	return j, err
}

// header returns the header of a new journal.
func (o runOptions) header(e *engine, j *job.Job, out string) journal.Header {
	header := journal.Header{
		Upstream: "real", Ledger: cmp.Or(j.LedgerID, "embedded"), Account: e.cfg.Account, Batch: job.NewBatchName(out), BaseURL: e.cfg.FaceKi.BaseURL,
	}
	if e.cfg.FaceKi.Simulated {
		header.Upstream = "simulated"
	}
	return header
}

// workerJournal returns the journal that the job's worker writes to: with the embedded
// Redis the journal is the record, otherwise the ledger is.
func workerJournal(e *engine, j *job.Job, log *journal.Journal) worker.Journal {
	if !e.cfg.EmbeddedRedis() {
		return nil
	}
	j.Journal = log
	return log
}
