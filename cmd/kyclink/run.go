package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/kyclink/kyclink/internal/column"
	"github.com/kyclink/kyclink/internal/config"
	"github.com/kyclink/kyclink/internal/input"
	"github.com/kyclink/kyclink/internal/job"
	"github.com/kyclink/kyclink/internal/journal"
	"github.com/kyclink/kyclink/internal/output"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
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
		Short: "the whole job in one process: a file of people in, a file of links out",
		Long: `run makes a link for every row of FILE, a CSV, .xlsx or NDJSON file, and writes the same
rows in the same order to OUT, with status, link_id, url, expires_at, reason, attempts
and possible_duplicates.

The header names the request's keys, without regard to case, blanks, _ and -; other
columns are carried over. Which columns are used is printed before the first call. One
that is nearly a key's is an error, unless --carry names it.

It keeps OUT.journal. Stopped at any point, even by kill -9, the same command goes
on where it was, and calls FaceKi for no finished row again. Both files may be moved
or renamed together. Failed rows are tried again with --retry-failed. A held row may
have a link that nobody has: --retry-held tries it again, which may cost a second
one, and says first how many there are.

FILE may be the OUT of another run: rows with the status created and a URL keep
their link, unless --again is given. Rows that repeat an id share one link; the
summary names them.

Without KYCLINK_REDIS_URL it uses an embedded Redis, in this process. --simulate is
for a trial: its links come from a simulator, not from FaceKi.
Exit codes: 0 every row has a link, 2 some have none, 3 it stopped waiting.`,
		Example: `  kyclink run people.csv -o links.csv --simulate
  FACEKI_CLIENT_ID=… FACEKI_CLIENT_SECRET_FILE=secret.txt kyclink run people.csv -o links.csv`,
		Args: one("an input file"),
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args[0]) },
	}
	cmd.Flags().StringVarP(&o.out, "output", "o", "", "file to write (required): .csv, .xlsx or .ndjson; FILE's format where it has no suffix")
	o.add(cmd)
	cmd.Flags().BoolVar(&o.retryFailed, "retry-failed", false, "try rows again that failed in an earlier run")
	cmd.Flags().BoolVar(&o.retryHeld, "retry-held", false, "try rows again that are held: each may make, and bill, a second link")
	cmd.Flags().BoolVar(&o.renew, "again", false, "make new links for rows, too, that have one in FILE already")
	cmd.Flags().BoolVar(&o.spreadsheet, "spreadsheet", false, spreadsheetHelp)
	cmd.Flags().BoolVar(&o.force, "force", false, "overwrite OUT although it has no journal: rows may get a second link")
	cmd.Flags().BoolVar(&o.simulate, "simulate", false, "make simulated links: by the simulator at FACEKI_BASE_URL, or one in this process")
	cmd.Flags().DurationVar(&o.patience, "patience", 30*time.Minute, "give up waiting when nothing was created for this long")
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
	reading, err := o.reading(cmd)
	if err != nil {
		return err
	}
	cfg, err := config.Load(os.Environ(), config.Needs{FaceKi: true, Simulate: o.simulate, Terminal: onTerminal()})
	if err != nil {
		return err
	}
	in, err := input.Open(file, reading)
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
	tellMapping(cmd.ErrOrStderr(), in, "carried over")
	tellInspection(cmd.ErrOrStderr(), found)
	bar := newProgress(os.Stderr, onTerminal())
	defer bar.stop()
	e, err := openEngine(ctx, cfg, runLogger(cfg, bar))
	if err != nil {
		return err
	}
	defer e.close()
	announce(bar, e.cfg)
	note = simulatedNote(e.cfg)

	reached, err = o.finish(ctx, cmd, e, in, bar, out)
	return err
}

// runLogger logs what a person can act on, unless KYCLINK_LOG_LEVEL asks for more: what
// FaceKi answers, and what the gate makes of it, is in the lines of [lookout].
func runLogger(cfg config.Config, bar *progress) *zap.Logger {
	if _, given := os.LookupEnv("KYCLINK_LOG_LEVEL"); given {
		return newLogger(cfg, zapcore.AddSync(bar))
	}
	cfg.Log.Level = "warn"
	return newLogger(cfg, zapcore.AddSync(bar)).WithOptions(zap.WrapCore(func(core zapcore.Core) zapcore.Core { return withoutFaults{core} }))
}

// withoutFaults leaves out warnings that have the reason of a fault, and that the
// batch is paused as its rows are refused, which the run ends with.
type withoutFaults struct{ zapcore.Core }

func (c withoutFaults) With(fields []zapcore.Field) zapcore.Core {
	return withoutFaults{c.Core.With(fields)}
}

func (c withoutFaults) Check(e zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return checked.AddCore(e, c)
	}
	return checked
}

func (c withoutFaults) Write(e zapcore.Entry, fields []zapcore.Field) error {
	has := func(key string) bool {
		return slices.ContainsFunc(fields, func(f zapcore.Field) bool { return f.Key == key })
	}
	if e.Level == zap.WarnLevel && has("reason") || has("in_a_row") {
		return nil
	}
	return c.Core.Write(e, fields)
}

// finish does the job and writes OUT.
func (o runOptions) finish(ctx context.Context, cmd *cobra.Command, e *engine, in *input.File, bar *progress, out string,
) (p job.Progress, err error) {
	j, err := o.job(ctx, e, in, bar)
	if err != nil {
		return p, err
	}
	scan, err := j.Scan(filepath.Dir(out))
	if err != nil {
		return p, err
	}
	log, err := journal.Open(out, o.header(e, j, out), o.force)
	if err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	j.Batch = log.Batch()
	if scan.Linked > 0 {
		fmt.Fprintf(bar, "kyclink: %s of FILE %s a link already, and no new one is made; --again makes one for each\n",
			number(scan.Linked, "row"), verb(scan.Linked, "has", "have"))
	}
	w, err := e.newWorker(ctx, workerJournal(e, j, log), nil)
	if err != nil {
		return p, err
	}
	if err := o.audit(ctx, e, j.Batch); err != nil {
		return p, err
	}
	beside, err := newLookout(ctx, e, bar, j.Batch)
	if err != nil {
		return p, err
	}
	defer context.AfterFunc(ctx, func() {
		bar.stop()
		fmt.Fprintln(bar, "kyclink: stopping: calls that were sent are finished first; interrupt once more to end at once")
	})()
	if err := e.letGoOn(ctx, j.Batch); err != nil {
		return p, err
	}
	p, err = work(ctx, j, w, beside)
	bar.stop()
	impatient := errors.Is(err, job.ErrImpatient)
	refused, rowsRefused := errors.AsType[*rowsRefusedError](err)
	if err != nil && !impatient && !rowsRefused {
		return p, err
	}
	written, err := j.Write(ctx, out)
	if err != nil {
		return p, err
	}
	o.conclude(cmd.ErrOrStderr(), written, scan, simulatedNote(e.cfg))
	switch {
	case rowsRefused:
		return p, refused
	case impatient:
		return p, &codeError{exitWaiting, fmt.Errorf("nothing was created for %v (--patience)%s; still open: %s. Run the same command again to continue",
			o.patience, following(beside.why(ctx, written.Open)), openCounts(p))}
	case written.Unfinished():
		return p, &codeError{code: exitNotCreated}
	}
	return p, nil
}

// audit records the run where others use its Redis: after the process has joined the
// account, as one that is refused must change nothing.
func (o runOptions) audit(ctx context.Context, e *engine, batch string) error {
	if e.cfg.EmbeddedRedis() {
		return nil
	}
	return e.audit(ctx, "batches.run", batch)
}

// target checks the flags, and gives the file that is to be written.
func (o runOptions) target(cmd *cobra.Command) (string, error) {
	switch {
	case o.out == "":
		return "", usageError(cmd, errors.New("say where the links go: -o OUT"))
	case output.IsStandardStream(o.out):
		return "", usageError(cmd, fmt.Errorf("-o %s: OUT must be a file, as it is replaced when it is whole and has a journal beside it; "+
			"name one, and print it afterwards", o.out))
	case output.CheckName(o.out) != nil:
		return "", usageError(cmd, fmt.Errorf("-o: %w", output.CheckName(o.out)))
	case o.patience <= 0:
		return "", usageError(cmd, errors.New("--patience: give a positive time, such as 30m"))
	case strings.ContainsFunc(o.out, unicode.IsControl):
		return "", usageError(cmd, fmt.Errorf("-o: the path %q holds a line break or another control character; name another OUT", o.out))
	}
	return output.Resolve(o.out)
}

// job gives the job without its journal and batch.
func (o runOptions) job(ctx context.Context, e *engine, in *input.File, bar *progress) (*job.Job, error) {
	j := &job.Job{
		Input: in, Ledger: e.ledger, RetryFailed: o.retryFailed, RetryHeld: o.retryHeld, IgnoreLinks: o.renew, Spreadsheet: o.spreadsheet,
		Simulated: e.cfg.FaceKi.Simulated, Patience: o.patience, OnProgress: bar.report,
		OnRetryHeld: func(held int) {
			fmt.Fprintf(bar, "kyclink: --retry-held: %s; up to %s more may be made and billed\n",
				number(held, "held row"), number(held, "link"))
		},
		OnRedisError: func(err error) {
			e.log.Warn("Redis fails; it is tried again", zap.Duration("at_most", o.patience), zap.Error(err))
		},
	}
	j.Client = e.producer(j.OnFull)
	var err error
	if !e.cfg.EmbeddedRedis() {
		j.LedgerID, err = e.ledger.ID(ctx)
	}
	return j, err
}

// header is what a journal that is begun now belongs to.
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

// interrupted makes of whatever a signal broke off what that means: how far it
// is, and to run it again. That OUT or its journal failed is said as well.
func interrupted(ctx context.Context, err error, p job.Progress) error {
	s, ok := errors.AsType[*signalError](context.Cause(ctx))
	if _, said := errors.AsType[*codeError](err); !ok || said || err == nil {
		return err
	}
	far := ""
	if p.AllAccepted {
		far = fmt.Sprintf(" with %d of %d done", p.Settled(), p.Total())
	}
	stopped := fmt.Errorf("%w%s; run the same command again to continue", s, far)
	if failed, ok := errors.AsType[*output.Error](err); ok {
		stopped = errors.Join(failed, stopped)
	}
	if failed, ok := errors.AsType[*journal.Error](err); ok {
		stopped = errors.Join(failed, stopped)
	}
	return &codeError{exitInterrupted + int(s.signal), stopped}
}

// announce says plainly what stands in for the real thing.
func announce(w io.Writer, cfg config.Config) {
	if cfg.EmbeddedRedis() {
		fmt.Fprintln(w, "kyclink: KYCLINK_REDIS_URL is not set: using an embedded Redis, in this process")
	}
	switch {
	case cfg.InProcess:
		fmt.Fprintln(w, "kyclink: SIMULATED: links come from a simulator in this process, not from FaceKi")
	case cfg.FaceKi.Simulated:
		fmt.Fprintf(w, "kyclink: SIMULATED: links come from the simulator at %s, not from FaceKi\n", cfg.FaceKi.BaseURL)
	}
}

// simulatedNote ends the last line of a job whose links are simulated.
func simulatedNote(cfg config.Config) string {
	if !cfg.FaceKi.Simulated {
		return ""
	}
	return " (SIMULATED: no link is from FaceKi)"
}

// noted adds the note to an error that is the last line of a job.
func noted(err error, note string) error {
	if err == nil || err.Error() == "" || note == "" {
		return err
	}
	return &codeError{exitCode(err), fmt.Errorf("%w%s", err, note)}
}

// conclude says what can be done about rows that have no link of their own, and in
// the last line what OUT holds.
func (o runOptions) conclude(w io.Writer, written job.Written, scan job.Scan, note string) {
	for _, r := range scan.First {
		fmt.Fprintf(w, "kyclink: %s\n", r)
	}
	if more := scan.Duplicates - len(scan.First); more > 0 {
		fmt.Fprintf(w, "kyclink: … and %s more\n", number(more, "row"))
	}
	if n := written.Counts[tasks.Failed]; n > 0 {
		fmt.Fprintf(w, "kyclink: the column reason says why a row failed; --retry-failed tries such rows again\n")
	}
	if n := written.Counts[tasks.Held]; n > 0 {
		fmt.Fprintf(w, "kyclink: a held row may have a link that only FaceKi's console shows; --retry-held tries again, which may bill up to %s\n",
			number(n, "second link"))
	}
	text := describe(written.Counts)
	if written.Linked > 0 {
		text += fmt.Sprintf(" (%d of them had a link before)", written.Linked)
	}
	if n := scan.Duplicates; n > 0 {
		text += fmt.Sprintf("; %s the id of an earlier row and share%s its link", verb(n, "1 row has", strconv.Itoa(n)+" rows have"), verb(n, "s", ""))
	}
	fmt.Fprintf(w, "%s: %s%s\n", o.out, text, note)
}

// following is why something is so, after the sentence that says what.
func following(why string) string {
	if why == "" {
		return ""
	}
	return ": " + why
}

// verb is one for a single thing, else many.
func verb(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

func describe(s output.Counts) string {
	var parts []string
	for _, status := range []tasks.Status{tasks.Created, tasks.Failed, column.Rejected, tasks.Cancelled, tasks.Held,
		tasks.Waiting, tasks.Queued, tasks.Calling} {
		if n := s[status]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, status))
		}
	}
	if parts == nil {
		return "no rows"
	}
	return strings.Join(parts, ", ")
}

func openCounts(p job.Progress) string {
	var parts []string
	for _, state := range []request.State{request.Waiting, request.Queued, request.Calling} {
		if n := p.Counts[state]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, state))
		}
	}
	if !p.AllAccepted {
		parts = append(parts, "rows that were not accepted, as the backlog is full (KYCLINK_MAX_BACKLOG)")
	}
	if p.JoinedOpen > 0 {
		parts = append(parts, fmt.Sprintf("%d that others asked for", p.JoinedOpen))
	}
	return strings.Join(parts, ", ")
}
