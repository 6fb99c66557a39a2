package simulator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// maxPage is how many applications or calls one page holds at most.
const maxPage = 10_000

func (s *Simulator) adminRoutes() {
	done := func(w http.ResponseWriter, err error) {
		if err != nil {
			writeJSON(w, http.StatusBadRequest, map[string]string{"error": err.Error()})
			return
		}
		writeJSON(w, http.StatusOK, s.State())
	}
	handle := func(pattern string, do func(r *http.Request) error) {
		s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { done(w, do(r)) })
	}
	handle("GET /_simulator/state", func(*http.Request) error { return nil })
	handle("POST /_simulator/reset", func(*http.Request) error { return s.Reset() })
	handle("POST /_simulator/revoke", func(*http.Request) error { s.Revoke(); return nil })
	handle("POST /_simulator/release", func(*http.Request) error { s.Release(); return nil })
	handle("POST /_simulator/credit", func(r *http.Request) error {
		var given struct {
			Add int `json:"add"`
		}
		if err := read(r, &given); err != nil || given.Add < 1 {
			return errors.New(`the body must be as {"add":100}`)
		}
		s.TopUp(given.Add)
		return nil
	})
	handle("PUT /_simulator/script", func(r *http.Request) error {
		body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		if err != nil {
			return err
		}
		script, err := ParseScript(body)
		if err != nil {
			return err
		}
		return s.SetScript(script)
	})
	s.mux.HandleFunc("GET /_simulator/script", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, s.Script())
	})
	s.mux.HandleFunc("GET /_simulator/links", func(w http.ResponseWriter, r *http.Request) {
		if id := r.URL.Query().Get("application_id"); id != "" {
			writeJSON(w, http.StatusOK, s.Application(id))
			return
		}
		after, limit, err := page(r)
		if err != nil {
			done(w, err)
			return
		}
		writeJSON(w, http.StatusOK, s.Applications(after, limit))
	})
	s.mux.HandleFunc("GET /_simulator/calls", func(w http.ResponseWriter, r *http.Request) {
		after, limit, err := page(r)
		if err != nil {
			done(w, err)
			return
		}
		writeJSON(w, http.StatusOK, s.Calls(after, limit))
	})
	s.mux.HandleFunc("/_simulator/redirected", func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		s.seen.RedirectsFollowed++
		s.mu.Unlock()
		writeJSON(w, http.StatusOK, struct{}{})
	})
	s.mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusNotFound, map[string]string{"message": "no such path"})
	})
}

func read(r *http.Request, to any) error {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err != nil {
		return err
	}
	return strict(body, to)
}

func page(r *http.Request) (after, limit int, err error) {
	limit = 1000
	for key, to := range map[string]*int{"after": &after, "limit": &limit} {
		if given := r.URL.Query().Get(key); given != "" {
			if *to, err = strconv.Atoi(given); err != nil || *to < 0 {
				return 0, 0, fmt.Errorf("%s must be a number from 0", key)
			}
		}
	}
	return after, min(limit, maxPage), nil
}

// Remote is a simulator in another process, at the base URL that FACEKI_BASE_URL
// has too. Its methods do what those of [Simulator] do.
type Remote struct{ BaseURL string }

// State gives the totals.
func (r Remote) State(ctx context.Context) (s State, err error) {
	err = r.do(ctx, http.MethodGet, "state", nil, &s)
	return s, err
}

// SetScript puts a script in force.
func (r Remote) SetScript(ctx context.Context, script Script) error {
	return r.do(ctx, http.MethodPut, "script", script, nil)
}

// TopUp adds links to the wallet.
func (r Remote) TopUp(ctx context.Context, links int) error {
	return r.do(ctx, http.MethodPost, "credit", map[string]int{"add": links}, nil)
}

// Revoke makes every token that was issued a refused one.
func (r Remote) Revoke(ctx context.Context) error {
	return r.do(ctx, http.MethodPost, "revoke", nil, nil)
}

// Release lets the calls that hang go on.
func (r Remote) Release(ctx context.Context) error {
	return r.do(ctx, http.MethodPost, "release", nil, nil)
}

// Reset makes the simulator forget everything.
func (r Remote) Reset(ctx context.Context) error {
	return r.do(ctx, http.MethodPost, "reset", nil, nil)
}

// Application gives what happened for one application id.
func (r Remote) Application(ctx context.Context, id string) (a Application, err error) {
	err = r.do(ctx, http.MethodGet, "links?application_id="+url.QueryEscape(id), nil, &a)
	return a, err
}

// Applications gives one page of the application ids.
func (r Remote) Applications(ctx context.Context, after, limit int) (p Applications, err error) {
	err = r.do(ctx, http.MethodGet, fmt.Sprintf("links?after=%d&limit=%d", after, limit), nil, &p)
	return p, err
}

// Calls gives one page of the arrivals.
func (r Remote) Calls(ctx context.Context, after, limit int) (p Calls, err error) {
	err = r.do(ctx, http.MethodGet, fmt.Sprintf("calls?after=%d&limit=%d", after, limit), nil, &p)
	return p, err
}

func (r Remote) do(ctx context.Context, method, what string, body, answer any) error {
	var sent bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&sent).Encode(body); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(r.BaseURL, "/")+"/_simulator/"+what, &sent)
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
