package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.opentelemetry.io/otel/trace"

	"github.com/kyclink/kyclink/internal/forecast"
	"github.com/kyclink/kyclink/internal/operator"
	"github.com/kyclink/kyclink/internal/tracing"
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
		Short: "Request a link for one person",
		Long: `Request a link for one person; a worker creates it. Repeating a request with the same
application ID never creates a second link, but shows the existing request.

With --wait, print only the URL, as soon as the link exists.

Exit codes: 0 the request was accepted or, with --wait, the link was created; 2 no link
was created; 3 the link does not exist yet after --wait, and the request continues.`,
		Example: `  kyclink request --application-id A-1001 --wait
  kyclink request --application-id A-1001 --redirect-url https://shop.example/done --json`,
		Args: flagsOnly,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("wait") && wait <= 0 {
				return usageError(cmd, errors.New("--wait must be a positive duration, such as 30s"))
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
	cmd.Flags().DurationVar(&wait, "wait", 0, "wait for the link, for 30s or the given `DURATION`")
	cmd.Flags().Lookup("wait").NoOptDefVal = "30s"
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the link as JSON")
	return cmd
}

// makeRequest enqueues a request, and waits for its link unless wait is 0.
func makeRequest(cmd *cobra.Command, e *engine, req tasks.Request, wait time.Duration, asJSON bool) error {
	client := e.producer(nil)
	ctx, span := tracing.New(e.traces).Start(cmd.Context(), "request", trace.SpanKindInternal)
	defer span.End()
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

// flagsOnly refuses arguments. The most likely one is a duration after --wait, whose value
// is optional and needs "=".
func flagsOnly(_ *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if _, err := time.ParseDuration(args[0]); err == nil {
		return fmt.Errorf("unexpected argument %q; write --wait=%s", args[0], args[0])
	}
	return fmt.Errorf("unexpected argument %q; give the person's ID with --application-id", args[0])
}

// flagHelp describes the flags for the keys of a request.
var flagHelp = map[string]string{
	"application_id":    "`ID` of the person: 1 to 128 printable characters without spaces (required)",
	"redirect_url":      "redirect the person to this https `URL` afterwards",
	"expiry_minutes":    "let the link expire after `MINUTES`",
	"document_optional": "let the person choose one of several documents: `BOOL` is true or false",
	"workflow_id":       "use the FaceKi workflow with this `ID`",
	"lane":              "`LANE` of the request: interactive (default) or bulk",
	"callback_url":      "send the signed event to this https `URL`",
	"not_after":         "give up if there is no link at `TIME`, such as 2026-12-01T00:00:00Z",
	"generation":        "request a new link, as generation `N`, after generation N-1 has ended",
	"metadata":          "`JSON` object that is included in events",
}

// requestFromFlags parses the values of flags, by key.
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

// notAccepted adds the exit code to the error of a request that was refused.
func notAccepted(err error) error {
	if reason := tasks.ReasonOf(err); reason != "" {
		return &codeError{exitNotCreated, fmt.Errorf("not accepted: %s: %w", reason, err)}
	}
	return err
}

// waitFor returns the link when the request has ended or is held, or as it is known when
// the time is over.
func waitFor(ctx context.Context, client *tasks.Client, req tasks.Request, link tasks.Link, wait time.Duration) (tasks.Link, error) {
	if link.Status.Ended() || link.Status == tasks.Held {
		return link, nil
	}
	bounded, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	now, err := client.Wait(bounded, req.ApplicationID)
	if now.ApplicationID != "" { // empty if Wait ended before it read anything
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
		return nil // standard output has nothing but the URL
	case waited:
		_, err := fmt.Fprintln(w, link.URL)
		return err
	}
	_, err := fmt.Fprintf(w, "%s %s\n", link.ApplicationID, link.Status)
	return err
}

// requestError returns an error with the exit code for the status of a request. wait is 0
// if the command did not wait.
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
	return &codeError{exitWaiting, fmt.Errorf("%s is still %s after %s%s\nThe request continues; to show its progress: kyclink show %s",
		l.ApplicationID, l.Status, forecast.Short(wait), reason, l.ApplicationID)}
}
