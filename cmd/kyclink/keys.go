package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/hostname"
	"github.com/kyclink/kyclink/internal/terminal"
)

func newKeys() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "Create, list and revoke API keys",
		Long: `Create, list and revoke API keys. Every request to the HTTP API needs a key. A key has
one or more scopes:

  enqueue  request links
  read     read links, batches and the account
  operate  pause, resume, cancel, retry

A key without "read" sees only the links of requests that it made. It can neither repeat
nor renew other requests, nor extend other batches.

Redis stores only the hash of a key. "kyclink audit" shows what was done with a key.`,
		Args: subcommandOnly,
		RunE: showHelp,
	}
	cmd.AddCommand(newKeysCreate(), newKeysList(), newKeysRevoke())
	return cmd
}

// createdKey is a new key as it is printed in JSON.
type createdKey struct {
	apikey.Issued
	Key string `json:"key"`
}

func newKeysCreate() *cobra.Command {
	var (
		name          string
		scopes, hosts []string
		asJSON        bool
	)
	cmd := &cobra.Command{
		Use:   "create --scope SCOPES --name NAME",
		Short: "Create an API key and print it",
		Long: `Create an API key with one or more scopes (see "kyclink keys --help"), and print it. It
cannot be shown again.`,
		Example: `  kyclink keys create --scope enqueue,read --name shop
  kyclink keys create --scope read,operate --name oncall > oncall.key
  kyclink keys create --scope enqueue --name partner --redirect-host partner.example`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if name == "" || len(scopes) == 0 {
				return usageError(cmd, errors.New("--name and --scope are required, such as --name shop --scope enqueue,read"))
			}
			given := make([]apikey.Scope, len(scopes))
			for i, s := range scopes {
				given[i] = apikey.Scope(s)
			}
			if err := apikey.Check(name, given); err != nil {
				return usageError(cmd, err)
			}
			for _, host := range hosts {
				if err := hostname.CheckPattern(host); err != nil {
					return usageError(cmd, fmt.Errorf("--redirect-host: %w", err))
				}
			}
			return withShared(cmd, func(e *engine) error {
				key, issued, err := apikey.NewKeyring(e.rdb, e.cfg.Account).Create(cmd.Context(), name, given, hosts...)
				if err != nil {
					return err
				}
				if err := e.audit(context.WithoutCancel(cmd.Context()), "keys.create", issued.ID); err != nil {
					return err
				}
				fmt.Fprintf(cmd.ErrOrStderr(), "kyclink: key %s (%s) may %s; store it now, it cannot be shown again\n",
					issued.ID, issued.Name, apikey.JoinScopes(issued.Scopes))
				if asJSON {
					return printJSON(cmd.OutOrStdout(), createdKey{issued, key})
				}
				_, err = fmt.Fprintln(cmd.OutOrStdout(), key)
				return err
			})
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "`NAME` of the key's user (required)")
	cmd.Flags().StringSliceVar(&scopes, "scope", nil, "`SCOPES` of the key: enqueue, read, operate; separated by commas (required)")
	cmd.Flags().StringSliceVar(&hosts, "redirect-host", nil, "`HOST` to which the key's requests may redirect people; may be repeated (default: all hosts that KYCLINK_REDIRECT_HOSTS permits)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return cmd
}

func newKeysList() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List all API keys, including revoked ones, oldest first",
		Example: "  kyclink keys list\n  kyclink keys list --json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withShared(cmd, func(e *engine) error {
				keys, err := apikey.NewKeyring(e.rdb, e.cfg.Account).List(cmd.Context())
				if err != nil {
					return err
				}
				p := newPage(cmd)
				t := p.Table("ID", "NAME", "SCOPES", "CREATED", "STATE", "REDIRECTS")
				for _, k := range keys {
					if asJSON {
						if err := printJSON(cmd.OutOrStdout(), k); err != nil {
							return err
						}
						continue
					}
					t.Row(keyRow(p, k)...)
				}
				return t.Flush()
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print each as a line of JSON")
	return cmd
}

// keyRow returns a key as a row of a table.
func keyRow(p *terminal.Page, k apikey.Issued) []terminal.Cell {
	redirects, created, state := strings.Join(k.RedirectHosts, ","), age(p, k.CreatedAt), terminal.Cell{Text: "valid", Tone: terminal.Good}
	if !p.Terminal() { // the columns have no headings
		created = "created " + created
		if redirects != "" {
			redirects = "redirects to " + redirects
		}
	}
	if !k.RevokedAt.IsZero() {
		state = terminal.Cell{Text: "revoked " + age(p, k.RevokedAt), Tone: terminal.Dim}
	}
	return []terminal.Cell{{Text: k.ID, Whole: true}, {Text: k.Name}, {Text: apikey.JoinScopes(k.Scopes)}, {Text: created}, state, {Text: redirects}}
}

func newKeysRevoke() *cobra.Command {
	return &cobra.Command{
		Use:     "revoke ID",
		Short:   "Revoke an API key",
		Long:    "Revoke an API key. All API processes refuse it within two seconds. This cannot be undone.",
		Example: "  kyclink keys revoke 4f8a1c2e9b07",
		Args:    one("the ID of a key, as kyclink keys list shows it"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withShared(cmd, func(e *engine) error {
				issued, err := apikey.NewKeyring(e.rdb, e.cfg.Account).Revoke(cmd.Context(), args[0])
				switch {
				case errors.Is(err, apikey.ErrUnknown) && issued.ID != "":
					return fmt.Errorf("key %s (%s) is already revoked, since %s", issued.ID, issued.Name, moment(issued.RevokedAt))
				case errors.Is(err, apikey.ErrUnknown):
					return fmt.Errorf("no key of account %q has this ID; to list the keys: kyclink keys list", e.cfg.Account)
				case err != nil:
					return err
				}
				if err := e.audit(context.WithoutCancel(cmd.Context()), "keys.revoke", issued.ID); err != nil {
					return err
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "key %s (%s) is revoked\n", issued.ID, issued.Name)
				return err
			})
		},
	}
}
