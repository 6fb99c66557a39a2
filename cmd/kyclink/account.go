package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/ledger"
)

func newAccount() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "account",
		Short: "the account's gate and rate, which all workers share",
		Long: `account shows and steers what all workers of a FaceKi account share: the gate, which
closes by itself while FaceKi is down, throttling, refusing the credentials or out
of credit, and opens by itself; and the rate.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newAccountStatus(), newAccountPause(), newAccountResume(), newAccountRate())
	return cmd
}

// accountStatus is what is shown of an account.
type accountStatus struct{ ledger.AccountStatus }

func readAccount(ctx context.Context, e *engine) (accountStatus, error) {
	s, err := ledger.New(e.rdb, ledger.Config{Account: e.cfg.Account}).Status(ctx)
	return accountStatus{s}, err
}

func newAccountStatus() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "status",
		Short:   "show the gate, the rate and what waits",
		Example: "  kyclink account status\n  kyclink account status --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withShared(cmd, func(e *engine) error {
				s, err := readAccount(cmd.Context(), e)
				if err != nil {
					return err
				}
				if asJSON {
					return printJSON(cmd.OutOrStdout(), s)
				}
				return s.print(cmd.OutOrStdout())
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	return cmd
}

func (s accountStatus) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		if text := fmt.Sprintf(format, args...); text != "" {
			fmt.Fprintf(t, "%s\t%s\n", name, text)
		}
	}
	row("account", "%s", s.Account)
	row("upstream", "%s", s.Upstream)
	gate := s.Gate.State
	if s.Gate.Reason != "" {
		gate += " (" + s.Gate.Reason + ")"
	}
	row("gate", "%s", gate)
	row("since", "%s", moment(s.Gate.Since))
	row("next probe", "%s", moment(s.Gate.NextProbe))
	if s.Gate.Message != "" {
		row("last error", "%s: %s", moment(s.Gate.MessageAt), s.Gate.Message)
	}
	for _, r := range s.Refused {
		row("refused credentials", "%s since %s", r.Credential, moment(r.Since))
	}
	limit := s.Rate.Limit
	if s.Rate.Overridden {
		limit += ", set by hand"
	}
	row("rate", "%s, burst %d; used %.1f/s", limit, s.Rate.Burst, s.Rate.Used)
	row("backlog", "%d interactive, %d bulk", s.Backlog.Interactive, s.Backlog.Bulk)
	row("workers", "%d, %s out", s.Workers, number(s.Calls, "call"))
	stream := number(s.Results.Length, "event")
	if s.Results.Cap > 0 {
		stream += fmt.Sprintf(", %d at most", s.Results.Cap)
	}
	if s.Results.Group != "" {
		stream += fmt.Sprintf("; group %s has %d to acknowledge", s.Results.Group, s.Results.Lag)
	}
	row("results", "%s", stream)
	if s.Intake.Entries > 0 {
		row("intake", "%d not taken in yet", s.Intake.Entries)
	}
	if s.Intake.Rejects > 0 {
		row("rejects", "%d of the intake stream: redis-cli XREVRANGE '%s' + - COUNT 10", s.Intake.Rejects, keyspace.Keys{Account: s.Account}.Rejects())
	}
	if s.PutAside > 0 {
		row("put aside", "%d that no worker could read: kyclink failed list --aside", s.PutAside)
	}
	for _, h := range s.History {
		row("history", "%s %s %s", moment(h.At), h.State, h.Reason)
	}
	return t.Flush()
}

func newAccountPause() *cobra.Command {
	return &cobra.Command{
		Use:   "pause",
		Short: "stop calling FaceKi, for all workers, until resume",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withShared(cmd, func(e *engine) error {
				if err := e.audit(cmd.Context(), "account.pause"); err != nil {
					return err
				}
				if err := admission.NewAccount(e.rdb, e.cfg.Account).Pause(cmd.Context()); err != nil {
					return err
				}
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "account %s is paused; calls that are out are seen through\n", e.cfg.Account)
				return err
			})
		},
	}
}

func newAccountResume() *cobra.Command {
	return &cobra.Command{
		Use:   "resume",
		Short: "end a pause; where the gate is closed by itself, probe now",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withShared(cmd, func(e *engine) error {
				if err := e.audit(cmd.Context(), "account.resume"); err != nil {
					return err
				}
				if err := admission.NewAccount(e.rdb, e.cfg.Account).Resume(cmd.Context()); err != nil {
					return err
				}
				s, err := readAccount(cmd.Context(), e)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "account %s: the gate is %s %s\n", e.cfg.Account, s.Gate.State, s.Gate.Reason)
				return err
			})
		},
	}
}

func newAccountRate() *cobra.Command {
	var reset, asJSON bool
	cmd := &cobra.Command{
		Use:   "rate [N/s|N/m|N/h]",
		Short: "show the rate, or change it for the whole running fleet",
		Long: `rate shows the rate in force. With a rate it puts that in force for all workers,
whatever FACEKI_RATE they start with, until --reset.`,
		Example: "  kyclink account rate\n  kyclink account rate 20/s\n  kyclink account rate --reset",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if reset && len(args) > 0 {
				return usageError(cmd, errors.New("give a rate or --reset, not both"))
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
	cmd.Flags().BoolVar(&reset, "reset", false, "put the workers' own rate in force again")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	return cmd
}

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
			_, err = account.OverrideRate(cmd.Context(), rate)
		}
	}
	if err != nil {
		return err
	}
	s, err := readAccount(cmd.Context(), e)
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(cmd.OutOrStdout(), s.Rate)
	}
	by := "as the workers set it"
	if s.Rate.Overridden {
		by = "set by hand; --reset gives it back to the workers"
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s, burst %d, %s\n", s.Rate.Limit, s.Rate.Burst, by)
	return err
}

// withShared does something with the Redis that all processes share.
func withShared(cmd *cobra.Command, do func(*engine) error) error {
	e, err := openShared(cmd.Context())
	if err != nil {
		return err
	}
	defer e.close()
	return do(e)
}
