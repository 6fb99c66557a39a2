package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/diagnosis"
	"github.com/kyclink/kyclink/internal/legible"
	"github.com/kyclink/kyclink/internal/operator"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/terminal"
)

func newBatchWatch() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "watch NAME",
		Short: "Show the progress of a batch until it is done",
		Long: `Show a batch's counts, its throughput and the time left: in a progress bar on a terminal,
otherwise in a line every 10 seconds and at changes. While no link is created, show why,
and what to do. The command ends when none of the batch's rows, joined rows included, is
waiting, queued or calling.

Exit codes: 0 every row has a link, 2 some rows failed, were cancelled or are held.`,
		Example: "  kyclink batch watch spring",
		Args:    one("a batch's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withBatch(cmd, args[0], func(_ *engine, op *operator.Operator, b batch.Batch) error {
				defer endUnread(cmd, os.Stdout, os.Stderr)()
				v := newBatchView(os.Stderr, onTerminal())
				b, err := op.WatchBatch(cmd.Context(), b, v.show, func(err error) { v.println(fmt.Sprintf("Redis does not answer: %v", err)) })
				v.End(true)
				if err != nil {
					return stopped(cmd.Context(), err)
				}
				if asJSON {
					err = printJSON(cmd.OutOrStdout(), b)
				} else {
					err = printBatch(newPage(cmd), b)
				}
				if err != nil {
					return err
				}
				if !asJSON {
					hint(watchedHint(b))
				}
				if withoutLink(b.Counts)+withoutLink(b.JoinedCounts) > 0 {
					return &codeError{code: exitNotCreated}
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the batch as JSON at the end")
	return cmd
}

// watchedHint returns which command helps when a batch has ended.
func watchedHint(b batch.Batch) string {
	switch {
	case b.Counts[request.Held] > 0:
		return fmt.Sprintf("To see the held rows: kyclink held list --batch %q", b.Batch)
	case b.Counts[request.Failed] > 0:
		return fmt.Sprintf("To see why rows failed: kyclink failed list --batch %q", b.Batch)
	}
	return fmt.Sprintf("To get the links: kyclink batch export %q -o FILE", b.Batch)
}

// batchView shows the progress of a batch: a bar on a terminal, otherwise lines.
type batchView struct {
	*terminal.Line
	printed time.Time      // the last line of progress
	last    batch.Status   // that was printed; changes are printed at once
	said    diagnosis.Code // that was printed; "" if links are created
}

func newBatchView(out io.Writer, tty bool) *batchView {
	return &batchView{Line: terminal.NewLine(out, tty)}
}

// show shows a batch with its diagnosis.
func (v *batchView) show(b batch.Batch, d diagnosis.Diagnosis) {
	if obstacle := obstacle(d); obstacle != v.said {
		if v.said = obstacle; obstacle != "" {
			v.println(fmt.Sprintf("batch %q is %s: %s", b.Batch, d.State, d.String()))
		} else {
			v.printed = time.Time{} // the next line of progress is due
		}
	}
	if v.Draws() {
		v.Draw(func(width int) string { return renderBatch(b, d, width) })
		return
	}
	if b.Status != v.last || time.Since(v.printed) >= linePause || b.Finished() {
		v.last, v.printed = b.Status, time.Now()
		v.println(fmt.Sprintf("batch %q is %s; %s; %s", b.Batch, batchStatus(b), counts(b), throughput(b)))
	}
}

// obstacle returns the code of what prevents links; "" if they are created, or will be
// when it is their turn.
func obstacle(d diagnosis.Diagnosis) diagnosis.Code {
	if d.Code.PreventsCalls() || d.Code == diagnosis.RetryScheduled {
		return d.Code
	}
	return ""
}

// renderBatch returns the bar of a batch, with its throughput or what prevents links.
func renderBatch(b batch.Batch, d diagnosis.Diagnosis, width int) string {
	done := b.Rows - b.Open()
	after := terminal.Percent(done, b.Rows)
	switch {
	case b.Finished():
	case obstacle(d) != "":
		after += fmt.Sprintf("  %s: %s", d.State, d.Code.Words())
	default:
		after += "  " + throughput(b)
	}
	if n := b.Counts[request.Failed]; n > 0 {
		after += fmt.Sprintf("  %s failed", count(n))
	}
	return terminal.WithBar(count(done)+"/"+count(b.Rows), after, done, b.Rows, width)
}

func (v *batchView) println(text string) { fmt.Fprintf(v.Line, "kyclink: %s\n", legible.Line(text)) }

// withoutLink returns how many rows ended without a link, or are held.
func withoutLink(counts map[request.State]int) int {
	return counts[request.Failed] + counts[request.Cancelled] + counts[request.Held]
}

// counts returns the number of rows in each state.
func counts(b batch.Batch) string {
	parts := make([]string, 0, 2)
	if own := inStates(b.Counts); own != "" {
		parts = append(parts, own)
	}
	if b.Joined > 0 {
		parts = append(parts, fmt.Sprintf("%s joined (%s)", count(b.Joined), inStates(b.JoinedCounts)))
	}
	return fmt.Sprintf("%s: %s", number(b.Rows, "row"), strings.Join(parts, ", "))
}

// inStates lists the states that have rows.
func inStates(counts map[request.State]int) string {
	var parts []string
	for _, state := range append(request.States[:], batch.Erased) {
		if n := counts[state]; n > 0 {
			parts = append(parts, fmt.Sprintf("%s %s", count(n), state))
		}
	}
	return strings.Join(parts, ", ")
}
