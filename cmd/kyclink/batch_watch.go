package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/legible"
	"github.com/kyclink/kyclink/internal/operator"
	"github.com/kyclink/kyclink/internal/request"
)

func newBatchWatch() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "watch NAME",
		Short: "Show the progress of a batch until it is done",
		Long: `Show a batch's counts, its throughput, the time left, and the account's gate unless that
is open: in a progress bar on a terminal, otherwise in a line every 10 seconds and at
changes. The command ends when none of the batch's rows, joined rows included, is
waiting, queued or calling.

Exit codes: 0 every row has a link, 2 some rows failed, were cancelled or are held.`,
		Example: "  kyclink batch watch spring",
		Args:    one("a batch's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withBatch(cmd, args[0], func(_ *engine, op *operator.Operator, b batch.Batch) error {
				v := newBatchView(os.Stderr, onTerminal())
				b, err := op.WatchBatch(cmd.Context(), b, v.show, func(err error) { v.println(fmt.Sprintf("Redis does not answer: %v", err)) })
				v.stop()
				if err != nil {
					return stopped(cmd.Context(), err)
				}
				if asJSON {
					err = printJSON(cmd.OutOrStdout(), b)
				} else {
					err = printBatch(cmd.OutOrStdout(), b)
				}
				if err != nil {
					return err
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

// batchView shows the progress of a batch: a bar on a terminal, otherwise lines.
type batchView struct {
	out     io.Writer
	bars    *mpb.Progress // nil without a terminal
	bar     *mpb.Bar
	text    string
	printed time.Time
	last    string // the status that was printed last; changes are printed at once
	refused string // why the batch is paused, which is printed once
}

func newBatchView(out io.Writer, terminal bool) *batchView {
	v := &batchView{out: out}
	if !terminal {
		return v
	}
	v.bars = mpb.New(mpb.WithOutput(out), mpb.WithWidth(30), mpb.WithAutoRefresh())
	v.bar = v.bars.AddBar(0,
		mpb.PrependDecorators(decor.CountersNoUnit("%d/%d")),
		mpb.AppendDecorators(decor.Percentage(), decor.Any(func(decor.Statistics) string { return "  " + v.text })))
	return v
}

func (v *batchView) show(b batch.Batch, gate operator.Gate) {
	now := legible.Text(batchStatus(b) + gateText(gate))
	text := legible.Text(fmt.Sprintf("%s; %s", counts(b), throughput(b)))
	if refused := b.RefusedMessage(); refused != v.refused {
		if v.refused = refused; refused != "" {
			v.println(fmt.Sprintf("batch %q is paused: %s; %s", b.Batch, refused, refusedAdvice(b)))
		}
	}
	if v.bar != nil {
		v.text = now + "; " + text
		v.bar.SetTotal(int64(b.Rows), false)
		v.bar.SetCurrent(int64(b.Rows - b.Open()))
		return
	}
	if now != v.last || time.Since(v.printed) >= linePause || b.Finished() {
		v.last = now
		v.println(fmt.Sprintf("batch %q is %s; %s", b.Batch, now, text))
	}
}

func (v *batchView) println(text string) {
	text = legible.Text(text)
	if v.bars != nil {
		_, _ = fmt.Fprintf(v.bars, "kyclink: %s\n", text)
		return
	}
	v.printed = time.Now()
	fmt.Fprintf(v.out, "kyclink: %s\n", text)
}

func (v *batchView) stop() {
	if v.bars != nil {
		v.bar.Abort(false)
		v.bars.Wait()
	}
}

// gateText describes the gate unless it is open.
func gateText(gate operator.Gate) string {
	if gate.State == "open" {
		return ""
	}
	text := ", the gate is " + gateState(gate)
	if !gate.NextProbe.IsZero() {
		text += ", next probe " + moment(gate.NextProbe)
	}
	return text
}

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
		parts = append(parts, fmt.Sprintf("%d joined (%s)", b.Joined, inStates(b.JoinedCounts)))
	}
	return fmt.Sprintf("%s: %s", number(b.Rows, "row"), strings.Join(parts, ", "))
}

// inStates lists the states that have rows.
func inStates(counts map[request.State]int) string {
	var parts []string
	for _, state := range append(request.States[:], batch.Erased) {
		if n := counts[state]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, state))
		}
	}
	return strings.Join(parts, ", ")
}
