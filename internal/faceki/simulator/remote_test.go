package simulator_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/kyclink/kyclink/internal/faceki/simulator"
)

// remote is a client of a simulator's control endpoints.
type remote struct{ baseURL string }

func (r remote) state(ctx context.Context) (s simulator.State, err error) {
	err = r.do(ctx, http.MethodGet, "state", nil, &s)
	return s, err
}

func (r remote) setScript(ctx context.Context, script simulator.Script) error {
	return r.do(ctx, http.MethodPut, "script", script, nil)
}

func (r remote) topUp(ctx context.Context, links int) error {
	return r.do(ctx, http.MethodPost, "credit", map[string]int{"add": links}, nil)
}

func (r remote) release(ctx context.Context) error {
	return r.do(ctx, http.MethodPost, "release", nil, nil)
}

func (r remote) reset(ctx context.Context) error {
	return r.do(ctx, http.MethodPost, "reset", nil, nil)
}

func (r remote) application(ctx context.Context, id string) (a simulator.Application, err error) {
	err = r.do(ctx, http.MethodGet, "links?application_id="+url.QueryEscape(id), nil, &a)
	return a, err
}

func (r remote) applications(ctx context.Context, after, limit int) (p simulator.Applications, err error) {
	err = r.do(ctx, http.MethodGet, fmt.Sprintf("links?after=%d&limit=%d", after, limit), nil, &p)
	return p, err
}

func (r remote) do(ctx context.Context, method, what string, body, answer any) error {
	var sent bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&sent).Encode(body); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(r.baseURL, "/")+"/_simulator/"+what, &sent)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("simulator: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("simulator: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("simulator: %s %s: HTTP %d: %s", method, what, resp.StatusCode, bytes.TrimSpace(got))
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(got, answer)
}
