package simulator

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
)

// maxPage is the maximum number of applications or calls in a page.
const maxPage = 10_000

// handleControl registers the endpoints below /_simulator/.
func (s *Simulator) handleControl() {
	answer := func(w http.ResponseWriter, err error) {
		if err != nil {
			writeJSON(w, http.StatusBadRequest, map[string]string{"error": err.Error()})
			return
		}
		writeJSON(w, http.StatusOK, s.State())
	}
	handle := func(pattern string, do func(r *http.Request) error) {
		s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { answer(w, do(r)) })
	}
	handle("GET /_simulator/state", func(*http.Request) error { return nil })
	handle("POST /_simulator/reset", func(*http.Request) error { return s.reset() })
	handle("POST /_simulator/revoke", func(*http.Request) error { s.Revoke(); return nil })
	handle("POST /_simulator/release", func(*http.Request) error { s.Release(); return nil })
	handle("POST /_simulator/credit", func(r *http.Request) error {
		var credit struct {
			Add int `json:"add"`
		}
		if err := readJSON(r, &credit); err != nil || credit.Add < 1 {
			return errors.New(`invalid body; use a body such as {"add":100}`)
		}
		s.TopUp(credit.Add)
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
	s.handleFaults()
	s.mux.HandleFunc("GET /_simulator/links", func(w http.ResponseWriter, r *http.Request) {
		if id := r.URL.Query().Get("application_id"); id != "" {
			writeJSON(w, http.StatusOK, s.Application(id))
			return
		}
		after, limit, err := page(r)
		if err != nil {
			answer(w, err)
			return
		}
		writeJSON(w, http.StatusOK, s.Applications(after, limit))
	})
	s.mux.HandleFunc("GET /_simulator/calls", func(w http.ResponseWriter, r *http.Request) {
		after, limit, err := page(r)
		if err != nil {
			answer(w, err)
			return
		}
		writeJSON(w, http.StatusOK, s.Calls(after, limit))
	})
	s.mux.HandleFunc("/_simulator/redirected", func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		s.counts.RedirectsFollowed++
		s.mu.Unlock()
		writeJSON(w, http.StatusOK, struct{}{})
	})
	s.mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusNotFound, map[string]string{"message": "no such path"})
	})
}

// handleFaults registers the endpoints that switch between presets.
func (s *Simulator) handleFaults() {
	s.mux.HandleFunc("GET /_simulator/faults", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, inEffect(s.Preset()))
	})
	s.mux.HandleFunc("PUT /_simulator/faults/{preset}", func(w http.ResponseWriter, r *http.Request) {
		p, err := ParsePreset(r.PathValue("preset"))
		if err == nil {
			err = s.Switch(p)
		}
		if err != nil {
			writeJSON(w, http.StatusBadRequest, map[string]string{"error": err.Error()})
			return
		}
		writeJSON(w, http.StatusOK, inEffect(p))
	})
}

// inEffect describes the preset in effect.
func inEffect(p Preset) map[string]string {
	if p == "" {
		return map[string]string{"faults": "script", "means": "see /_simulator/script"}
	}
	return map[string]string{"faults": string(p), "means": p.Describe()}
}

func readJSON(r *http.Request, to any) error {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err != nil {
		return err
	}
	return decodeStrict(body, to)
}

func page(r *http.Request) (after, limit int, err error) {
	limit = 1000
	for key, to := range map[string]*int{"after": &after, "limit": &limit} {
		if given := r.URL.Query().Get(key); given != "" {
			if *to, err = strconv.Atoi(given); err != nil || *to < 0 {
				return 0, 0, fmt.Errorf("invalid %s: it must be a number of at least 0", key)
			}
		}
	}
	return after, min(limit, maxPage), nil
}
