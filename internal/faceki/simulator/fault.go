package simulator

import (
	"cmp"
	"encoding/json"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// fail answers with the fault; link is the link that was made first, if any.
// It is true for a call that hung without one and was released: it goes on as
// if there had been no fault.
func (s *Simulator) fail(w http.ResponseWriter, r *http.Request, f Fault, link success) (goesOn bool) {
	kind, n, _ := f.number()
	switch kind {
	case "http":
		if n == http.StatusTooManyRequests && f.RetryAfter == 0 {
			f.RetryAfter = Duration(time.Second)
		}
		enveloped(w, f, n, n, "statusCode")
		return false
	case "code":
		status := f.Status
		if status == 0 {
			status = http.StatusOK
		}
		enveloped(w, f, status, n, "responseCode")
		return false
	}
	switch f.Name {
	case "hang":
		if s.hang(r) && link.LinkID != "" {
			writeJSON(w, http.StatusOK, link)
			return false
		}
		return r.Context().Err() == nil
	case "reset_before", "reset_after":
		reset(w)
	case "truncated":
		truncate(w, link)
	case "not_json":
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte("<html><body>welcome</body></html>"))
	case "redirect":
		http.Redirect(w, r, "/_simulator/redirected", http.StatusFound)
	case "no_data":
		writeJSON(w, http.StatusOK, success{URL: link.URL})
	case "no_url":
		writeJSON(w, http.StatusOK, success{LinkID: link.LinkID})
	case "foreign_url":
		link.URL = strings.Replace(LinkPrefix, "simulator.invalid", cmp.Or(f.Host, "elsewhere.invalid"), 1) + link.LinkID
		writeJSON(w, http.StatusOK, link)
	case "too_long":
		writeJSON(w, http.StatusOK, map[string]any{
			"responseCode": 0, "data": link.LinkID, "url": link.URL, "padding": strings.Repeat("x", 1<<20)})
	}
	return false
}

func enveloped(w http.ResponseWriter, f Fault, status, code int, envelope string) {
	if f.RetryAfter > 0 {
		w.Header().Set("Retry-After", seconds(time.Duration(f.RetryAfter)))
	}
	if f.Envelope != "" {
		envelope = f.Envelope
	}
	const message = "simulated fault"
	switch envelope {
	case "responseCode":
		writeJSON(w, status, map[string]any{"responseCode": code, "message": message})
	case "statusCode":
		writeJSON(w, status, map[string]any{"status": false, "statusCode": code, "message": message, "data": struct{}{}})
	case "code":
		writeJSON(w, status, map[string]any{"status": false, "code": code, "message": message, "result": nil})
	case "zero":
		writeJSON(w, status, map[string]any{"status": false, "code": 0, "message": message})
	case "proxy":
		writeJSON(w, status, map[string]any{"error": map[string]any{"code": status, "message": message}})
	case "html":
		htmlPage(w, status, "<html><head><title>Access denied</title></head><body>"+message+"</body></html>")
	case "login":
		htmlPage(w, status, `<html><head><title>Sign in</title></head><body><form><input type="password"></form></body></html>`)
	case "message":
		writeJSON(w, status, map[string]any{"message": message})
	case "text":
		http.Error(w, message, status)
	case "empty":
		w.WriteHeader(status)
	}
}

func htmlPage(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body)) // the caller may be gone
}

// hang waits for the caller to go, or for a release.
func (s *Simulator) hang(r *http.Request) (released bool) {
	s.mu.Lock()
	release := s.released
	s.mu.Unlock()
	select {
	case <-release:
		return true
	case <-r.Context().Done():
		return false
	}
}

// reset ends the connection with an RST where it is plain TCP, else by closing it.
func reset(w http.ResponseWriter) {
	hijacker, ok := w.(http.Hijacker)
	if !ok {
		panic(http.ErrAbortHandler)
	}
	conn, _, err := hijacker.Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// truncate announces a whole answer, sends half of it and closes the connection.
func truncate(w http.ResponseWriter, link success) {
	body, _ := json.Marshal(link) // of strings
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body[:len(body)/2])
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}
