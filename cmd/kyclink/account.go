package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kyclink/kyclink/internal/account"
	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/legible"
	"github.com/kyclink/kyclink/internal/operator"
	"github.com/kyclink/kyclink/internal/terminal"
)

func newAccount() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "account",
		Short: "Show and control the account's gate and rate",
		Long: `Show and control what all workers of a FaceKi account share: its rate and its gate. The
gate closes while FaceKi is down, throttles, refuses the credentials or has no credit
left, so that no worker calls it, and opens by itself.`,
		Args: subcommandOnly,
		RunE: showHelp,
	}
	cmd.AddCommand(newAccountStatus(), newAccountPause(), newAccountResume(), newAccountRate())
	return cmd
}

func newAccountStatus() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "status",
		Short:   "Show the gate, the rate and the backlog",
		Example: "  kyclink account status\n  kyclink account status --json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withOperator(cmd, func(op *operator.Operator) error {
				s, err := op.Account(cmd.Context())
				if err != nil {
					return err
				}
				if asJSON {
					return printJSON(cmd.OutOrStdout(), s)
				}
				if err := printAccount(newPage(cmd), s); err != nil {
					return err
				}
				hint("To see whether people get their links, and why not: kyclink status")
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return cmd
}

// printAccount prints the status of the account, a line for each value.
func printAccount(p *terminal.Page, s account.Status) error {
	f := p.Fields()
	f.Add("account", s.Account)
	f.Add("upstream", s.Upstream)
	f.AddTone("gate", gateTone(s.Gate), gateState(s.Gate))
	f.Add("since", dated(p, s.Gate.Since))
	f.Add("paused by", s.Gate.PausedBy)
	f.Add("pause reason", s.Gate.PauseReason)
	f.Add("next probe", dated(p, s.Gate.NextProbe))
	if s.Gate.Message != "" {
		f.Add("last error", fmt.Sprintf("%s: %s", dated(p, s.Gate.MessageAt), s.Gate.Message))
	}
	for _, r := range s.Refused {
		f.AddTone("refused credentials", terminal.Bad, fmt.Sprintf("%s since %s", r.Credential, dated(p, r.Since)))
	}
	limit := s.Rate.Limit
	if s.Rate.Overridden {
		limit += ", set by kyclink account rate"
	}
	f.Add("rate", fmt.Sprintf("%s, burst %d; used %.1f/s", limit, s.Rate.Burst, s.Rate.Used))
	f.Add("backlog", fmt.Sprintf("%s interactive, %s bulk", count(s.Backlog.Interactive), count(s.Backlog.Bulk)))
	f.Add("workers", fmt.Sprintf("%s, %s in flight", count(s.Workers), number(s.Calls, "call")))
	stream := number(s.Results.Length, "event")
	if s.Results.Cap > 0 {
		stream += ", cap " + count(s.Results.Cap)
	}
	if s.Results.Group != "" {
		stream += fmt.Sprintf("; group %s has %s to acknowledge", s.Results.Group, count(s.Results.Lag))
	}
	f.Add("results", stream)
	if n := s.Intake.Entries; n == 1 {
		f.Add("intake", "1 entry to read")
	} else if n > 1 {
		f.Add("intake", count(n)+" entries to read")
	}
	if s.Intake.Rejects > 0 {
		f.Add("rejects", fmt.Sprintf("%s from the intake stream: redis-cli XREVRANGE '%s' + - COUNT 10", count(s.Intake.Rejects), keyspace.Keys{Account: s.Account}.Rejects()))
	}
	if s.Quarantined > 0 {
		f.AddTone("quarantined", terminal.Bad, count(s.Quarantined)+" that no worker could decode: kyclink failed list --quarantined")
	}
	for _, h := range s.History {
		f.Add("history", strings.TrimRight(fmt.Sprintf("%s %s %s", moment(h.At), h.State, h.Reason), " "))
	}
	return f.Flush()
}

// gateTone returns the tone of the state of the gate.
func gateTone(g operator.Gate) terminal.Tone {
	switch g.State {
	case "open":
		return terminal.Good
	case "closed":
		return terminal.Bad
	}
	return terminal.Warning
}

// gateState returns the state of the gate, with its reason if it has one.
func gateState(g operator.Gate) string {
	if g.Reason == "" {
		return g.State
	}
	return g.State + " (" + g.Reason + ")"
}

func newAccountPause() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "pause",
		Short: "Stop calling FaceKi in all workers until \"account resume\"",
		Long: `Close the account's gate: no worker starts a call until "kyclink account resume". Calls
in flight finish, and requests are still accepted. "kyclink status", "kyclink account
status" and the console show who paused it, and the reason.`,
		Example: "  kyclink account pause\n  kyclink account pause --reason \"FaceKi moves to a new host\"",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if reason = strings.TrimSpace(reason); cmd.Flags().Changed("reason") {
				if wrong := legible.WrongName(reason, admission.MaxPauseReason); wrong != "" {
					return usageError(cmd, fmt.Errorf("--reason %s", wrong))
				}
			}
			return withShared(cmd, func(e *engine) error {
				if err := e.audit(cmd.Context(), "account.pause", reason); err != nil {
					return err
				}
				if err := admission.NewAccount(e.rdb, e.cfg.Account).Pause(cmd.Context(), whoami(), reason); err != nil {
					return err
				}
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "account %s is paused; calls in flight will finish\n", e.cfg.Account)
				return err
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, as `TEXT` of one line for others who look at the account")
	return cmd
}

func newAccountResume() *cobra.Command {
	return &cobra.Command{
		Use:   "resume",
		Short: "End a pause, or probe a closed gate now",
		Long: `End a pause. If the gate is closed for another reason, send the next probe now. The gate
opens if that call succeeds.`,
		Example: "  kyclink account resume",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withShared(cmd, func(e *engine) error {
				if err := e.audit(cmd.Context(), "account.resume"); err != nil {
					return err
				}
				if err := admission.NewAccount(e.rdb, e.cfg.Account).Resume(cmd.Context()); err != nil {
					return err
				}
				s, err := e.operator().Account(cmd.Context())
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "account %s: the gate is %s\n", e.cfg.Account, gateState(s.Gate))
				return err
			})
		},
	}
}

func newAccountRate() *cobra.Command {
	var reset, asJSON bool
	cmd := &cobra.Command{
		Use:   "rate [N/s|N/m|N/h]",
		Short: "Show the rate, or change it for all running workers",
		Long: `Show the current rate. With an argument, set the rate of all workers. It overrides their
FACEKI_RATE until "account rate --reset".`,
		Example: "  kyclink account rate\n  kyclink account rate 20/s\n  kyclink account rate --reset",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if reset && len(args) > 0 {
				return usageError(cmd, errors.New("a rate and --reset exclude each other; give one of them"))
			}
			var rate admission.Rate
			if len(args) > 0 {
				var err error
				if rate, err = admission.ParseRate(args[0]); err != nil {
					return usageError(cmd, err)
				}
			}
			return withShared(cmd, func(e *engine) error {
				return changeRate(cmd, e, rate, reset, asJSON)
			})
		},
	}
	cmd.Flags().BoolVar(&reset, "reset", false, "return to the workers' FACEKI_RATE")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return cmd
}

// changeRate overrides or resets the rate, if asked to, and prints the current one.
func changeRate(cmd *cobra.Command, e *engine, rate admission.Rate, reset, asJSON bool) error {
	account := admission.NewAccount(e.rdb, e.cfg.Account)
	var err error
	switch {
	case reset:
		if err = e.audit(cmd.Context(), "account.rate", "reset"); err == nil {
			_, err = account.ResetRate(cmd.Context())
		}
	case rate != (admission.Rate{}):
		if err = e.audit(cmd.Context(), "account.rate", rate.String()); err == nil {
			_, err = account.OverrideRate(cmd.Context(), rate, 0)
		}
	}
	if err != nil {
		return err
	}
	s, err := e.operator().Account(cmd.Context())
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(cmd.OutOrStdout(), s.Rate)
	}
	by := "set by the workers"
	if s.Rate.Overridden {
		by = "set by kyclink account rate; --reset returns to the workers' FACEKI_RATE"
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s, burst %d, %s\n", s.Rate.Limit, s.Rate.Burst, by)
	return err
}
