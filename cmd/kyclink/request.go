package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kyclink/kyclink/internal/config"
	"github.com/kyclink/kyclink/tasks"
)

func newRequest() *cobra.Command {
	var (
		wait   time.Duration
		asJSON bool
		values = map[string]*string{}
	)
	cmd := &cobra.Command{
		Use:   "request",
		Short: "enqueue one request",
		Long: `request asks for one person's link. Asking again for the same application id never
makes a second link: the answer is what exists.

With --wait it prints the link's URL alone as soon as it exists, and exits with 2
where none was made, with 3 where it stopped waiting; the request goes on then.`,
		Example: `  kyclink request --application-id A-1001 --wait
  kyclink request --application-id A-1001 --redirect-url https://shop.example/done --json`,
		Args: flagsOnly,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("wait") && wait <= 0 {
				return usageError(cmd, errors.New("--wait: give a positive time, such as 30s"))
			}
			req, err := requestFromFlags(cmd, values)
			if err != nil {
				return err
			}
			client, done, err := openClient(cmd.Context())
			if err != nil {
				return err
			}
			defer done()
			link, err := client.Enqueue(cmd.Context(), req)
			if err != nil {
				return notAccepted(err)
			}
			waited := wait > 0
			if waited {
				if link, err = waitFor(cmd.Context(), client, req, link, wait); err != nil {
					return err
				}
			}
			if err := printRequest(cmd.OutOrStdout(), link, asJSON, waited); err != nil {
				return err
			}
			return ended(link, waited, wait)
		},
	}
	for _, key := range tasks.Keys() {
		name := strings.ReplaceAll(key, "_", "-")
		values[key] = cmd.Flags().String(name, "", flagHelp[key])
	}
	cmd.Flags().DurationVar(&wait, "wait", 0, "wait for the link, 30s where no time is given")
	cmd.Flags().Lookup("wait").NoOptDefVal = "30s"
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the link as JSON")
	return cmd
}

// flagsOnly refuses arguments. The likeliest is a time that --wait, which can do
// without one, does not take for its own.
func flagsOnly(_ *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if _, err := time.ParseDuration(args[0]); err == nil {
		return fmt.Errorf("%q belongs to no flag: write --wait=%s", args[0], args[0])
	}
	return fmt.Errorf("%q belongs to no flag: request takes flags only", args[0])
}

var flagHelp = map[string]string{
	"application_id":    "who it is for: 1 to 128 printable characters without blanks (required)",
	"redirect_url":      "https URL to go to afterwards",
	"expiry_minutes":    "the link's life",
	"document_optional": "true: one document of several, as the person chooses",
	"workflow_id":       "FaceKi workflow",
	"lane":              "interactive or bulk (default interactive)",
	"callback_url":      "https URL that gets the signed event",
	"not_after":         "when to give up, such as 2026-12-01T00:00:00Z",
	"generation":        "N asks for a new link after generation N-1 has ended",
	"metadata":          "JSON object that events carry along",
}

func requestFromFlags(cmd *cobra.Command, values map[string]*string) (tasks.Request, error) {
	req, err := tasks.ParseText(func(key string) string { return *values[key] })
	if invalid, ok := errors.AsType[*tasks.InvalidError](err); ok {
		lines := make([]string, len(invalid.Problems))
		for i, p := range invalid.Problems {
			lines[i] = "--" + strings.ReplaceAll(p.Key, "_", "-") + " " + p.Message
		}
		return req, usageError(cmd, errors.New(strings.Join(lines, "\n         ")))
	}
	return req, err
}

// openClient connects a producer to Redis.
func openClient(ctx context.Context) (*tasks.Client, func(), error) {
	e, err := openShared(ctx)
	if err != nil {
		return nil, nil, err
	}
	return e.producer(nil), e.close, nil
}

// openShared opens an engine over the Redis that all processes share, for a
// command that makes no links itself.
func openShared(ctx context.Context) (*engine, error) {
	cfg, err := config.Load(os.Environ(), config.Needs{Redis: true, Terminal: onTerminal()})
	if err != nil {
		return nil, err
	}
	e := &engine{cfg: cfg, log: newLogger(cfg, os.Stderr)}
	e.rdb, err = e.openRedis(ctx)
	return e, err
}

// notAccepted makes a request that cannot be accepted an outcome, not an error
// of ours.
func notAccepted(err error) error {
	if reason := tasks.ReasonOf(err); reason != "" {
		return &codeError{exitNotCreated, fmt.Errorf("not accepted: %s: %w", reason, err)}
	}
	return err
}

// waitFor gives the latest that is known of the link where the time is over, too.
func waitFor(ctx context.Context, client *tasks.Client, req tasks.Request, link tasks.Link, wait time.Duration) (tasks.Link, error) {
	if link.Status.Ended() || link.Status == tasks.Held {
		return link, nil
	}
	bounded, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	now, err := client.Wait(bounded, req.ApplicationID)
	if now.ApplicationID != "" { // or Wait ended before it learned anything
		link = now
	}
	switch {
	case ctx.Err() != nil:
		return link, context.Cause(ctx)
	case errors.Is(err, context.DeadlineExceeded):
		return link, nil
	}
	return link, err
}

func printRequest(w io.Writer, link tasks.Link, asJSON, waited bool) error {
	switch {
	case asJSON:
		return printJSON(w, link)
	case waited && link.Status != tasks.Created:
		return nil // standard output is for the URL alone
	case waited:
		_, err := fmt.Fprintln(w, link.URL)
		return err
	}
	_, err := fmt.Fprintf(w, "%s %s\n", link.ApplicationID, link.Status)
	return err
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// ended gives the exit code for what is known of a request.
func ended(link tasks.Link, waited bool, wait time.Duration) error {
	switch {
	case link.Status == tasks.Created:
		return nil
	case link.Status.Ended(), link.Status == tasks.Held:
		return &codeError{exitNotCreated, fmt.Errorf("%s is %s (%s)", link.ApplicationID, link.Status, why(link.Reason, link.Message))}
	case !waited:
		return nil
	}
	return &codeError{exitWaiting, fmt.Errorf("%s is still %s after %v; nothing is lost: kyclink show %s",
		link.ApplicationID, link.Status, wait, link.ApplicationID)}
}
