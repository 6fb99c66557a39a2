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

// fail answers with a fault; link is the link made before it, if any. It returns true
// for a released call that hung without a link, which then proceeds normally. The release is
// that of the time when the call arrived.
func fail(w http.ResponseWriter, r *http.Request, f Fault, link success, release <-chan struct{}) (proceed bool) {
	kind, n, _ := f.number()
	switch kind {
	case "http":
		if n == http.StatusTooManyRequests && f.RetryAfter == 0 {
			f.RetryAfter = Duration(time.Second)
		}
		writeEnvelope(w, f, n, n, "statusCode")
		return false
	case "code":
		status := f.Status
		if status == 0 {
			status = http.StatusOK
		}
		writeEnvelope(w, f, status, n, "responseCode")
		return false
	}
	switch f.Name {
	case "hang":
		if hang(r, release) && link.LinkID != "" {
			writeJSON(w, http.StatusOK, link)
			return false
		}
		return r.Context().Err() == nil
	case "reset_before", "reset_after":
		resetConn(w)
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

func writeEnvelope(w http.ResponseWriter, f Fault, status, code int, envelope string) {
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
		writeHTML(w, status, "<html><head><title>Access denied</title></head><body>"+message+"</body></html>")
	case "login":
		writeHTML(w, status, `<html><head><title>Sign in</title></head><body><form><input type="password"></form></body></html>`)
	case "message":
		writeJSON(w, status, map[string]any{"message": message})
	case "text":
		http.Error(w, message, status)
	case "empty":
		w.WriteHeader(status)
	}
}

func writeHTML(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body)) // the caller may have disconnected
}

// hang waits until the caller disconnects or the call is released.
func hang(r *http.Request, release <-chan struct{}) (released bool) {
	select {
	case <-release:
		return true
	case <-r.Context().Done():
		return false
	}
}

// resetConn resets a plain TCP connection with an RST and closes any other.
func resetConn(w http.ResponseWriter) {
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

// truncate announces the full length of the answer, sends half of it and closes the
// connection.
func truncate(w http.ResponseWriter, link success) {
	body, _ := json.Marshal(link) // cannot fail for strings
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body[:len(body)/2])
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}
