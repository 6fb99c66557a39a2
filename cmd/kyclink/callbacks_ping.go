package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/kyclink/kyclink/internal/callback"
	"github.com/kyclink/kyclink/internal/config"
	"github.com/kyclink/kyclink/internal/operator"
)

func newCallbacksTest() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "test URL",
		Short: "Send a signed ping to a URL, and show the answer",
		Long: `Send an event of type ping to a URL, signed with KYCLINK_CALLBACK_SECRET. It is sent as
workers deliver callbacks: only to hosts in KYCLINK_CALLBACK_HOSTS and to allowed
addresses, through KYCLINK_CALLBACK_PROXY, and without following redirects. The command
makes one attempt, records nothing and does not need Redis.

Exit codes: 0 the receiver answered with 2xx, 1 it did not.`,
		Example: "  kyclink callbacks test https://shop.example/hooks/kyc\n  kyclink callbacks test https://shop.example/hooks/kyc --json",
		Args:    one("the URL of a receiver"),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := config.Load(os.Environ(), config.Needs{Callbacks: true, Terminal: onTerminal()})
			if err != nil {
				return err
			}
			return ping(cmd, cfg, args[0], asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the answer as JSON")
	return cmd
}

// pingResult is the result of a ping.
type pingResult struct {
	Host      string `json:"host"`
	EventID   string `json:"event_id"`
	Delivered bool   `json:"delivered"`
	TookMS    int64  `json:"took_ms"`
	operator.Answer
}

func ping(cmd *cobra.Command, cfg config.Config, to string, asJSON bool) error {
	u, err := url.Parse(to)
	if err != nil || u.Host == "" {
		return usageError(cmd, errors.New("give the URL of a receiver, such as https://shop.example/hooks/kyc"))
	}
	newLogger(cfg, os.Stderr) // warns of misspelt variables
	sender, err := callback.New(cfg.Callback)
	if err != nil {
		return err
	}
	defer sender.Close()
	began := time.Now()
	d, reply, err := sender.Ping(cmd.Context(), cfg.Account, to)
	if err != nil {
		return usageError(cmd, err)
	}
	if s := context.Cause(cmd.Context()); s != nil {
		return s
	}
	p := pingResult{d.Host, d.EventID, reply.Accepted(), time.Since(began).Milliseconds(), operator.AnswerOf(reply)}
	if asJSON {
		if err := printJSON(cmd.OutOrStdout(), p); err != nil {
			return err
		}
	}
	return p.print(cmd, asJSON, reply.Final)
}

// print shows the answer, and what a worker would do about it.
func (p pingResult) print(cmd *cobra.Command, asJSON, final bool) error {
	body := ""
	if p.Body != "" {
		body = "\nbody: " + p.Body
	}
	if p.Delivered {
		if asJSON {
			return nil
		}
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s answered with HTTP %d after %d ms: it accepts callbacks%s\n", p.Host, p.Status, p.TookMS, body)
		return err
	}
	next := "a worker would retry it"
	if final {
		next = "a worker would give it up at once"
	}
	return fmt.Errorf("the ping to %s was not delivered: %s; %s%s", p.Host, reasonText(p.Reason, p.Message), next, body)
}

func newCallbacksSecret() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "secret",
		Short: "Generate a secret for signing callbacks",
		Long: `Print a new random secret for KYCLINK_CALLBACK_SECRET: workers sign callbacks with it,
and receivers verify them with it. The command changes no setting.

To rotate the secret, let the workers sign with both ("NEW OLD"), then change the
receivers, then remove the old one.`,
		Example: "  (umask 077; kyclink callbacks secret > callback.secret)\n  export KYCLINK_CALLBACK_SECRET_FILE=callback.secret",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			secret := "whsec_" + base64.StdEncoding.EncodeToString(randomKey())
			if asJSON {
				return printJSON(cmd.OutOrStdout(), map[string]string{"secret": secret})
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), secret)
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return cmd
}

// randomKey returns a key with as many bytes as Standard Webhooks recommends.
func randomKey() []byte {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // it never fails
	return key
}
