package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kyclink/kyclink/internal/operator"
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
		Short: "Enqueue one request",
		Long: `Request one person's link. Repeating a request for the same application ID never
creates a second link: the answer is what exists.

With --wait it prints only the link's URL, as soon as it exists. The exit code is 2 if no
link was created, and 3 if it stopped waiting; the request continues then.`,
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
	cmd.Flags().DurationVar(&wait, "wait", 0, "wait for the link, by default for 30s")
	cmd.Flags().Lookup("wait").NoOptDefVal = "30s"
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the link as JSON")
	return cmd
}

// makeRequest enqueues a request, and waits for its link if wait is not 0.
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
	answer := operator.Link{Link: link}
	if waited && !link.Status.Ended() {
		if d, err := e.operator().Diagnose(ctx, link); err == nil {
			answer.Diagnosis = &d
		}
	}
	if err := printRequest(cmd.OutOrStdout(), answer, asJSON, waited); err != nil {
		return err
	}
	return requestError(answer, wait)
}

// flagsOnly refuses arguments. The likeliest one is a time after --wait, whose value is
// optional and needs "=".
func flagsOnly(_ *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if _, err := time.ParseDuration(args[0]); err == nil {
		return fmt.Errorf("unexpected argument %q: write --wait=%s", args[0], args[0])
	}
	return fmt.Errorf("unexpected argument %q: request has flags only", args[0])
}

var flagHelp = map[string]string{
	"application_id":    "the person's `ID`: 1 to 128 printable characters without blanks (required)",
	"redirect_url":      "https `URL` to which the person is redirected afterwards",
	"expiry_minutes":    "`MINUTES` until the link expires",
	"document_optional": "let the person choose one of several documents: `true` or false",
	"workflow_id":       "FaceKi workflow `ID`",
	"lane":              "`LANE` of the request: interactive (default) or bulk",
	"callback_url":      "https `URL` that receives the signed event",
	"not_after":         "give up at `TIME`, such as 2026-12-01T00:00:00Z",
	"generation":        "request generation `N`, a new link, after generation N-1 has ended",
	"metadata":          "`JSON` object that is repeated in events",
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

// notAccepted gives a request that was refused its exit code.
func notAccepted(err error) error {
	if reason := tasks.ReasonOf(err); reason != "" {
		return &codeError{exitNotCreated, fmt.Errorf("not accepted: %s: %w", reason, err)}
	}
	return err
}

// waitFor returns the link as it is known last, also when the time is over.
func waitFor(ctx context.Context, client *tasks.Client, req tasks.Request, link tasks.Link, wait time.Duration) (tasks.Link, error) {
	if link.Status.Ended() || link.Status == tasks.Held {
		return link, nil
	}
	bounded, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	now, err := client.Wait(bounded, req.ApplicationID)
	if now.ApplicationID != "" { // else Wait ended before it read anything
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

func printRequest(w io.Writer, link operator.Link, asJSON, waited bool) error {
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

// requestError gives the exit code for what is known of a request. wait is 0 if it did
// not wait.
func requestError(l operator.Link, wait time.Duration) error {
	switch {
	case l.Status == tasks.Created:
		return nil
	case l.Status.Ended(), l.Status == tasks.Held:
		return &codeError{exitNotCreated, fmt.Errorf("%s is %s (%s)", l.ApplicationID, l.Status, reasonText(l.Reason, l.Message))}
	case wait == 0:
		return nil
	}
	reason := ""
	if l.Diagnosis != nil {
		reason = ": " + l.Diagnosis.String()
	}
	return &codeError{exitWaiting, fmt.Errorf("%s is still %s after %v%s\nNothing is lost; to see its progress: kyclink show %s",
		l.ApplicationID, l.Status, wait, reason, l.ApplicationID)}
}
