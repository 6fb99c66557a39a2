package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/kyclink/kyclink/internal/callback"
	"github.com/kyclink/kyclink/internal/config"
	"github.com/kyclink/kyclink/internal/delivery"
	"github.com/kyclink/kyclink/tasks"
)

func newCallbacksTest() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "test URL",
		Short: "send a signed ping to a URL, and show what it answers",
		Long: `test sends an event of type ping to a URL, signed with KYCLINK_CALLBACK_SECRET, in the
way in which workers deliver callbacks: only to hosts that KYCLINK_CALLBACK_HOSTS
names and to addresses that are allowed, through KYCLINK_CALLBACK_PROXY, without
following redirects. It makes one attempt and keeps nothing; Redis is not needed.

The exit code is 0 where the receiver answered with 2xx, and 1 where it did not.`,
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

// callbackURL says why a URL is refused as the callback_url of any request.
func callbackURL(to string) error {
	_, err := tasks.ParseText(func(key string) string {
		return map[string]string{"application_id": "ping", "callback_url": to}[key]
	})
	return err
}

// pong is the result of a ping.
type pong struct {
	Host      string `json:"host"`
	EventID   string `json:"event_id"`
	Delivered bool   `json:"delivered"`
	TookMS    int64  `json:"took_ms"`
	lastAnswer
}

func ping(cmd *cobra.Command, cfg config.Config, to string, asJSON bool) error {
	u, err := url.Parse(to)
	if err != nil || u.Host == "" {
		return usageError(cmd, errors.New("give the URL of a receiver, such as https://shop.example/hooks/kyc"))
	}
	if err := callbackURL(to); err != nil {
		return usageError(cmd, err)
	}
	newLogger(cfg, os.Stderr) // which warns about misspelt variables
	sender, err := callback.New(cfg.Callback)
	if err != nil {
		return err
	}
	defer sender.Close()
	now := time.Now()
	d := delivery.Delivery{EventID: uuid.NewString(), URL: to, Host: u.Host}
	if d.Body, err = pingBody(cfg.Account, now); err != nil {
		return err
	}
	reply := sender.Post(cmd.Context(), d)
	if s := context.Cause(cmd.Context()); s != nil {
		return s
	}
	p := pong{d.Host, d.EventID, reply.Taken(), time.Since(now).Milliseconds(), lastAnswer{reply.At, reply.Code, reply.Reason, reply.Message, reply.Body}}
	if asJSON {
		if err := printJSON(cmd.OutOrStdout(), p); err != nil {
			return err
		}
	}
	return p.tell(cmd, asJSON, reply.Final)
}

// tell says what was answered, and what it would mean for a real event.
func (p pong) tell(cmd *cobra.Command, asJSON, final bool) error {
	said := ""
	if p.Body != "" {
		said = fmt.Sprintf("\nit said: %s", p.Body)
	}
	if p.Delivered {
		if asJSON {
			return nil
		}
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s answered with HTTP %d after %d ms: it takes callbacks%s\n", p.Host, p.Status, p.TookMS, said)
		return err
	}
	next := "a worker would try again"
	if final {
		next = "a worker would give it up at once"
	}
	return fmt.Errorf("the ping to %s was not delivered: %s; %s%s", p.Host, why(p.Reason, p.Message), next, said)
}

// pingBody is an event that is no request's.
func pingBody(account string, now time.Time) ([]byte, error) {
	return json.Marshal(struct {
		Type      string            `json:"type"`
		Timestamp time.Time         `json:"timestamp"`
		Data      map[string]string `json:"data"`
	}{"ping", now.UTC(), map[string]string{"account": account}})
}

func newCallbacksSecret() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "secret",
		Short: "generate a secret to sign callbacks with, and print it",
		Long: `secret prints a new random secret for KYCLINK_CALLBACK_SECRET, which workers sign
callbacks with and receivers verify them with. It changes nothing. To change secrets:
let the workers sign with both, "NEW OLD", then change the receivers, then drop the
old one.`,
		Example: "  (umask 077; kyclink callbacks secret > callback.secret)\n  export KYCLINK_CALLBACK_SECRET_FILE=callback.secret",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			secret := "whsec_" + base64.StdEncoding.EncodeToString(randomKey())
			if asJSON {
				return printJSON(cmd.OutOrStdout(), map[string]string{"secret": secret})
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), secret)
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	return cmd
}

// randomKey has the bytes that Standard Webhooks suggests.
func randomKey() []byte {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // it never fails
	return key
}
