package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kyclink/kyclink/internal/config"
)

const (
	// healthWithin is longer than a process needs to learn that Redis does not answer, and
	// shorter than the time after which container engines give up on a check.
	healthWithin = 5 * time.Second
	// mostHealth limits the answer that is read.
	mostHealth = 4 << 10
)

func newHealth() *cobra.Command {
	var at string
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Check the health of a worker or serve, in a container",
		Long: `Ask a worker or serve for its health at KYCLINK_OPS_LISTEN: GET /readyz. The exit code is
0 if it is healthy, and 1 if it is not or does not answer within 5 seconds; a line says
why.

The container image uses this as its health check. It needs the settings of the process
that it asks, and no connection to Redis.`,
		Example: `  kyclink health
  KYCLINK_OPS_LISTEN=:9091 kyclink health
  kyclink health --url http://127.0.0.1:8888/_simulator/state`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			target, err := healthURL(cmd, at)
			if err != nil {
				return err
			}
			if err := checkHealth(cmd.Context(), target); err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), "healthy")
			return err
		},
	}
	cmd.Flags().StringVar(&at, "url", "", "ask this `URL` instead; healthy is an answer with a status below 300")
	return cmd
}

// healthURL returns the URL of the health of the process with these settings, or the given
// one.
func healthURL(cmd *cobra.Command, given string) (string, error) {
	if given != "" {
		if u, err := url.Parse(given); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return "", usageError(cmd, errors.New("--url must be a URL such as http://127.0.0.1:9090/readyz"))
		}
		return given, nil
	}
	cfg, err := config.Load(os.Environ(), config.Needs{Ops: true})
	if err != nil {
		return "", err
	}
	host, port, err := net.SplitHostPort(cfg.Ops.Listen)
	if err != nil {
		return "", err
	}
	if port == "0" {
		return "", &codeError{config.ExitCode, errors.New("KYCLINK_OPS_LISTEN has port 0, which the process replaces by a free one; " +
			"set it to a port, or name the address with --url")}
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() { // the process listens at every address
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, port) + "/readyz", nil
}

// checkHealth returns why the process behind a URL is not healthy; nil if it is.
func checkHealth(ctx context.Context, target string) error {
	ctx, cancel := context.WithTimeout(ctx, healthWithin)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, http.NoBody)
	if err != nil {
		return withoutURL(err)
	}
	client := http.Client{ // without the proxy of the environment
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("unhealthy: no answer from %s within %v", req.URL.Host, healthWithin)
	case err != nil:
		return fmt.Errorf("unhealthy: no answer from %s: %w; check that the process is running and serves its health there", req.URL.Host, withoutURL(err))
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode < http.StatusMultipleChoices {
		return nil
	}
	return fmt.Errorf("unhealthy: %s", cmp.Or(reasonOf(resp), resp.Status))
}

// reasonOf returns the first line of an answer in plain text.
func reasonOf(resp *http.Response) string {
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
		return ""
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, mostHealth)) // without it, the status is shown
	line, _, _ := strings.Cut(string(body), "\n")
	return strings.TrimSpace(line)
}

// withoutURL removes the URL, which may contain a password, from an error of package http.
func withoutURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}
