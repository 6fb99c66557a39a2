package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/ledger"
	"github.com/kyclink/kyclink/internal/legible"
	"github.com/kyclink/kyclink/internal/request"
)

// watchPause is between two looks.
const watchPause = time.Second

func newBatchWatch() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "watch NAME",
		Short: "show how a batch goes on, until it is done",
		Long: `watch shows a batch's counts, its pace and what is left at it, and the account's gate
while that is not open: a live line on a terminal, a line now and then elsewhere. It
ends when nothing of the batch waits, is queued or called any more, not even as
another's request that a row joined: with exit code 0, or 2 where some of it failed, was cancelled or is held.`,
		Example: "  kyclink batch watch spring",
		Args:    one("a batch's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withBatch(cmd, args[0], func(e *engine, book *ledger.Ledger, b ledger.Batch) error {
				v := newView(os.Stderr, onTerminal())
				b, err := watch(cmd.Context(), e, book, b, v)
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
				if linkless(b.Counts)+linkless(b.JoinedCounts) > 0 {
					return &codeError{code: exitNotCreated}
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON when it is over")
	return cmd
}

// watch shows a batch until it is over, and gives it as it is then. It goes on
// while Redis is away: that is something to be seen, and no end.
func watch(ctx context.Context, e *engine, book *ledger.Ledger, b ledger.Batch, v *view) (ledger.Batch, error) {
	for {
		gate, err := admission.Read(ctx, e.rdb, book.Keys())
		if err == nil {
			v.show(b, gate.Gate)
		}
		if b.Over() {
			return b, nil
		}
		select {
		case <-ctx.Done():
			return b, ctx.Err()
		case <-time.After(watchPause):
		}
		now, ok, err := book.Batch(ctx, b.Number)
		switch {
		case ctx.Err() != nil:
			return b, ctx.Err()
		case err != nil:
			v.say(fmt.Sprintf("Redis cannot be asked: %v", err))
		case !ok:
			return b, errors.New("the batch is not there any more")
		default:
			b = now
		}
	}
}

// view shows a batch: a bar on a terminal, a line now and then elsewhere.
type view struct {
	out  io.Writer
	bars *mpb.Progress // nil without a terminal
	bar  *mpb.Bar
	text string
	said time.Time
	last string // what changed since is said at once
	why  string // it is paused: said once
}

func newView(out io.Writer, terminal bool) *view {
	v := &view{out: out}
	if !terminal {
		return v
	}
	v.bars = mpb.New(mpb.WithOutput(out), mpb.WithWidth(30), mpb.WithAutoRefresh())
	v.bar = v.bars.AddBar(0,
		mpb.PrependDecorators(decor.CountersNoUnit("%d/%d")),
		mpb.AppendDecorators(decor.Percentage(), decor.Any(func(decor.Statistics) string { return "  " + v.text })))
	return v
}

func (v *view) show(b ledger.Batch, gate admission.GateStatus) {
	now := legible.Text(stands(b) + gateText(gate))
	text := legible.Text(fmt.Sprintf("%s; %s", counts(b), pacing(b)))
	if why := b.Refused(); why != v.why {
		if v.why = why; why != "" {
			v.say(fmt.Sprintf("batch %q is paused: %s; %s", b.Batch, why, correct(b)))
		}
	}
	if v.bar != nil {
		v.text = now + "; " + text
		v.bar.SetTotal(int64(b.Rows), false)
		v.bar.SetCurrent(int64(b.Rows - b.Open()))
		return
	}
	if now != v.last || time.Since(v.said) >= linePause || b.Over() {
		v.last = now
		v.say(fmt.Sprintf("batch %q is %s; %s", b.Batch, now, text))
	}
}

func (v *view) say(text string) {
	text = legible.Text(text)
	if v.bars != nil {
		_, _ = fmt.Fprintf(v.bars, "kyclink: %s\n", text)
		return
	}
	v.said = time.Now()
	fmt.Fprintf(v.out, "kyclink: %s\n", text)
}

func (v *view) stop() {
	if v.bars != nil {
		v.bar.Abort(false)
		v.bars.Wait()
	}
}

// gateText says nothing of an open gate.
func gateText(gate admission.GateStatus) string {
	if gate.State == "open" {
		return ""
	}
	text := ", the gate is " + gate.State
	if gate.Reason != "" {
		text += " (" + gate.Reason + ")"
	}
	if !gate.NextProbe.IsZero() {
		text += ", next probe " + moment(gate.NextProbe)
	}
	return text
}

// linkless is how many of the rows that are over have no link.
func linkless(counts map[request.State]int) int {
	return counts[request.Failed] + counts[request.Cancelled] + counts[request.Held]
}

// counts says how many rows are in each state.
func counts(b ledger.Batch) string {
	parts := make([]string, 0, 2)
	if own := inStates(b.Counts); own != "" {
		parts = append(parts, own)
	}
	if b.Joined > 0 {
		parts = append(parts, fmt.Sprintf("%d joined (%s)", b.Joined, inStates(b.JoinedCounts)))
	}
	return fmt.Sprintf("%s: %s", number(b.Rows, "row"), strings.Join(parts, ", "))
}

// inStates leaves out what there is none of.
func inStates(counts map[request.State]int) string {
	var parts []string
	for _, state := range append(request.States[:], ledger.Erased) {
		if n := counts[state]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, state))
		}
	}
	return strings.Join(parts, ", ")
}
