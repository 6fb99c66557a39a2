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
	"github.com/kyclink/kyclink/internal/diagnosis"
	"github.com/kyclink/kyclink/internal/ledger"
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
			return withShared(cmd, func(e *engine) error { return makeRequest(cmd, e, req, wait, asJSON) })
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

// makeRequest asks for a link, and waits for it where wait is more than 0.
func makeRequest(cmd *cobra.Command, e *engine, req tasks.Request, wait time.Duration, asJSON bool) error {
	ctx, client := cmd.Context(), e.producer(nil)
	if err := e.audit(ctx, "links.request", req.ApplicationID); err != nil {
		return err
	}
	link, err := client.Enqueue(ctx, req)
	if err != nil {
		return notAccepted(err)
	}
	waited := wait > 0
	if waited {
		if link, err = waitFor(ctx, client, req, link, wait); err != nil {
			return err
		}
	}
	answer := unendedLink{Link: link}
	if waited && !link.Status.Ended() {
		answer.Diagnosis = e.why(ctx, link)
	}
	if err := printRequest(cmd.OutOrStdout(), answer, asJSON, waited); err != nil {
		return err
	}
	return answer.ended(waited, wait)
}

// unendedLink is a link with the reason for which it has not come yet.
type unendedLink struct {
	tasks.Link
	Diagnosis string `json:"diagnosis,omitempty"`
}

// why says why a link does not come; empty where nothing stands in its way.
func (e *engine) why(ctx context.Context, link tasks.Link) string {
	s, err := diagnosis.Of(ctx, e.rdb, ledger.New(e.rdb, ledger.Config{Account: e.cfg.Account}), link)
	if err != nil {
		return "the reason cannot be read: " + err.Error()
	}
	return s.Why()
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

// openShared opens an engine over the Redis that all processes share, for a
// command that makes no links itself.
func openShared(ctx context.Context) (*engine, error) {
	cfg, err := config.Load(os.Environ(), config.Needs{Redis: true, Terminal: onTerminal()})
	if err != nil {
		return nil, err
	}
	if err := checkFiles(0); err != nil {
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

func printRequest(w io.Writer, link unendedLink, asJSON, waited bool) error {
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
func (l unendedLink) ended(waited bool, wait time.Duration) error {
	switch {
	case l.Status == tasks.Created:
		return nil
	case l.Status.Ended(), l.Status == tasks.Held:
		return &codeError{exitNotCreated, fmt.Errorf("%s is %s (%s)", l.ApplicationID, l.Status, why(l.Reason, l.Message))}
	case !waited:
		return nil
	}
	reason := ""
	if l.Diagnosis != "" {
		reason = ": " + l.Diagnosis
	}
	return &codeError{exitWaiting, fmt.Errorf("%s is still %s after %v%s\nNothing is lost: kyclink show %s says how it goes on",
		l.ApplicationID, l.Status, wait, reason, l.ApplicationID)}
}
