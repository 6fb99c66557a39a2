package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/kyclink/kyclink/internal/diagnosis"
	"github.com/kyclink/kyclink/internal/operator"
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
something that clears by itself, and 5 if a person must act. --watch prints a line whenever
the situation changes, until it is interrupted.`,
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
				if err := printStatus(cmd.OutOrStdout(), d, asJSON); err != nil {
					return err
				}
				return statusError(d.State)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the diagnosis as JSON; with --watch, each as a line")
	cmd.Flags().BoolVar(&watch, "watch", false, "print the diagnosis again whenever it changes")
	return cmd
}

func printStatus(w io.Writer, d diagnosis.Diagnosis, asJSON bool) error {
	if asJSON {
		return printJSON(w, d)
	}
	return printDiagnosis(w, d)
}

// printDiagnosis prints a diagnosis with its findings, for people.
func printDiagnosis(w io.Writer, d diagnosis.Diagnosis) error {
	if err := printFinding(w, "", d.Finding); err != nil {
		return err
	}
	for _, f := range d.Findings {
		if err := printFinding(w, "also ", f); err != nil {
			return err
		}
	}
	if d.More == 0 {
		return nil
	}
	_, err := fmt.Fprintf(w, "and %s: see kyclink account status\n", number(d.More, "further finding"))
	return err
}

func printFinding(w io.Writer, prefix string, f diagnosis.Finding) error {
	if _, err := fmt.Fprintf(w, "%s%s: %s\n", prefix, f.State, f.Text); err != nil || f.Next == "" {
		return err
	}
	_, err := fmt.Fprintf(w, "  what to do: %s\n", f.Next)
	return err
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

// watchStatus prints the diagnosis whenever its code changes, until it is interrupted. It
// continues when Redis cannot be reached for a while.
func watchStatus(cmd *cobra.Command, op *operator.Operator, asJSON bool) error {
	ctx, last := cmd.Context(), ""
	tick := time.NewTicker(statusPause)
	defer tick.Stop()
	for {
		d, err := op.Status(ctx)
		if ctx.Err() != nil {
			return stopped(ctx, ctx.Err())
		}
		now := string(d.Code)
		if err != nil {
			now = err.Error()
		}
		if now != last {
			if !asJSON {
				fmt.Fprintf(cmd.OutOrStdout(), "%s ", time.Now().UTC().Format(time.RFC3339))
			}
			if err != nil {
				err = printUnreadable(cmd, err, asJSON)
			} else {
				err = printStatus(cmd.OutOrStdout(), d, asJSON)
			}
			if err != nil {
				return err
			}
		}
		last = now
		select {
		case <-ctx.Done():
			return stopped(ctx, ctx.Err())
		case <-tick.C:
		}
	}
}

func printUnreadable(cmd *cobra.Command, err error, asJSON bool) error {
	if asJSON {
		_, err := fmt.Fprintf(cmd.ErrOrStderr(), "kyclink: the account cannot be read: %v\n", err)
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "the account cannot be read: %v\n", err)
	return err
}
