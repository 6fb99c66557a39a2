package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/kyclink/kyclink/internal/diagnosis"
	"github.com/kyclink/kyclink/internal/legible"
	"github.com/kyclink/kyclink/internal/operator"
	"github.com/kyclink/kyclink/internal/terminal"
)

// Exit codes of status, which alerts and scripts rely on.
const (
	exitClearsByItself = 4
	exitPersonMustAct  = 5
)

func newStatus() *cobra.Command {
	var asJSON, watch bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say whether people get their links and, if not, why and what to do",
		Long: `Say in one sentence whether links are created and, if not, why; then what a person must
do, and up to three other findings. Nothing is changed.

The exit code is 0 if links are created or there is nothing to do, 4 if requests wait for
something that clears by itself, and 5 if a person must act, even if other requests wait
for something that clears by itself. --watch repeats the diagnosis every second until it
is interrupted or nobody reads its output: in place on a terminal, otherwise as a line
whenever the situation changes.`,
		Example: `  kyclink status
  kyclink status --watch
  kyclink status --json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withOperator(cmd, func(op *operator.Operator) error {
				if watch {
					return watchStatus(cmd, op, asJSON)
				}
				d, err := op.Status(cmd.Context())
				if err != nil {
					return err
				}
				if err := printStatus(cmd, d, asJSON); err != nil {
					return err
				}
				return statusError(d.State)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the diagnosis as JSON; with --watch, each as a line")
	cmd.Flags().BoolVar(&watch, "watch", false, "keep showing the diagnosis until interrupted")
	return cmd
}

func printStatus(cmd *cobra.Command, d diagnosis.Diagnosis, asJSON bool) error {
	if asJSON {
		return printJSON(cmd.OutOrStdout(), d)
	}
	return printDiagnosis(newPage(cmd), d)
}

// printDiagnosis prints a diagnosis with its findings, for people.
func printDiagnosis(p *terminal.Page, d diagnosis.Diagnosis) error {
	if err := printFinding(p, string(d.State), d.Finding); err != nil {
		return err
	}
	return printFindings(p, d)
}

// printFindings prints the further findings of a diagnosis.
func printFindings(p *terminal.Page, d diagnosis.Diagnosis) error {
	for _, f := range d.Findings {
		if err := printFinding(p, also(f.State), f); err != nil {
			return err
		}
	}
	if d.More == 0 {
		return nil
	}
	return p.Note(terminal.Dim, fmt.Sprintf("and %s: see kyclink account status", number(d.More, "further finding")))
}

const todo = "  what to do: "

// also returns the label of a further finding, with its state unless links are created.
func also(s diagnosis.State) string {
	if s == diagnosis.Flowing {
		return "also"
	}
	return "also " + string(s)
}

func printFinding(p *terminal.Page, label string, f diagnosis.Finding) error {
	if err := p.Paragraph(tone(f.State), label+": ", f.Text, 2); err != nil || f.Next == "" {
		return err
	}
	return p.Paragraph(terminal.Heading, todo, f.Next, len(todo))
}

// tone returns the tone of a state.
func tone(s diagnosis.State) terminal.Tone {
	switch s {
	case diagnosis.Flowing:
		return terminal.Good
	case diagnosis.Waiting:
		return terminal.Warning
	case diagnosis.Stuck:
		return terminal.Bad
	case diagnosis.Idle:
	}
	return terminal.Plain
}

// statusError gives the exit code for a state.
func statusError(s diagnosis.State) error {
	switch s {
	case diagnosis.Waiting:
		return &codeError{code: exitClearsByItself}
	case diagnosis.Stuck:
		return &codeError{code: exitPersonMustAct}
	case diagnosis.Flowing, diagnosis.Idle:
	}
	return nil
}

// statusPause is the time between two diagnoses of status --watch.
const statusPause = time.Second

// watchStatus shows the diagnosis until it is interrupted. It continues when Redis cannot be
// reached for a while.
func watchStatus(cmd *cobra.Command, op *operator.Operator, asJSON bool) error {
	defer endUnread(cmd, os.Stdout)()
	ctx, show := cmd.Context(), newStatusView(cmd, asJSON)
	tick := time.NewTicker(statusPause)
	defer tick.Stop()
	for {
		d, err := op.Status(ctx)
		if ctx.Err() != nil {
			return stopped(ctx, ctx.Err())
		}
		if err := show(d, err); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return stopped(ctx, ctx.Err())
		case <-tick.C:
		}
	}
}

// newStatusView returns a function that shows a diagnosis, or the error of reading it: in
// place on a terminal, otherwise whenever its code changes.
func newStatusView(cmd *cobra.Command, asJSON bool) func(diagnosis.Diagnosis, error) error {
	out := cmd.OutOrStdout()
	if p := newPage(cmd); p.Terminal() && !asJSON {
		block := terminal.NewBlock(p)
		return func(d diagnosis.Diagnosis, unread error) error {
			return block.Draw(func(p *terminal.Page) error { return drawStatus(p, d, unread) })
		}
	}
	last := ""
	return func(d diagnosis.Diagnosis, unread error) (err error) {
		now := string(d.Code)
		if unread != nil {
			now = unread.Error()
		}
		if now == last {
			return nil
		}
		last = now
		switch {
		case asJSON && unread != nil:
			_, err = fmt.Fprintf(cmd.ErrOrStderr(), "kyclink: the account cannot be read: %v\n", unread)
		case asJSON:
			err = printJSON(out, d)
		case unread != nil:
			_, err = fmt.Fprintf(out, "%s the account cannot be read: %v\n", moment(time.Now()), unread)
		default:
			_, err = fmt.Fprintf(out, "%s %s\n", moment(time.Now()), statusLine(d))
		}
		return err
	}
}

// drawStatus prints a diagnosis, or the error of reading it, with the time.
func drawStatus(p *terminal.Page, d diagnosis.Diagnosis, unread error) error {
	if unread != nil {
		if err := p.Paragraph(terminal.Bad, "the account cannot be read: ", legible.Line(unread.Error()), 2); err != nil {
			return err
		}
	} else if err := printDiagnosis(p, d); err != nil {
		return err
	}
	return p.Note(terminal.Dim, moment(time.Now())+"; Ctrl-C ends")
}

// statusLine returns a diagnosis with its findings in one line.
func statusLine(d diagnosis.Diagnosis) string {
	line := fmt.Sprintf("%s: %s", d.State, d.String())
	for _, f := range d.Findings {
		line += fmt.Sprintf(" (%s: %s)", also(f.State), f.String())
	}
	return legible.Line(line)
}
