package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/input"
	"github.com/kyclink/kyclink/internal/legible"
	"github.com/kyclink/kyclink/internal/tracing"
	"github.com/kyclink/kyclink/internal/transfer"
	"github.com/kyclink/kyclink/tasks"
)

const (
	maxHeaders  = 16 << 10         // bytes of the URL and all headers
	maxRequest  = 64 << 10         // bytes of a body with a single request
	bodyTimeout = 10 * time.Second // for such a body
	// shortTimeout limits a response that does not wait for a link, and how long Redis
	// may take to answer.
	shortTimeout = 5 * time.Second
)

// call is one HTTP request and its response. It is not safe for concurrent use.
type call struct {
	http.ResponseWriter
	control *http.ResponseController
	r       *http.Request
	id      string
	key     apikey.Key
	// presented is the key with its secret, to check later whether it was revoked.
	presented string
	unlogged  bool  // log skips it: logRefused logs it, at a limited rate
	unchanged bool  // it changes nothing, although its method could
	status    int   // of the response; 0 before it has begun
	cause     error // for the log
}

// Unwrap lets an [http.ResponseController] reach the connection.
func (c *call) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// SignedIn sets the key of a request of the console, for the log.
func (c *call) SignedIn(key apikey.Key) { c.key = key }

// WriteHeader starts the response.
func (c *call) WriteHeader(status int) {
	if c.status == 0 {
		c.status = status
		_ = c.control.SetWriteDeadline(time.Now().Add(transfer.MaxStall)) // test recorders have no deadline
	}
	c.ResponseWriter.WriteHeader(status)
}

// Write writes a small response. See [transfer.Writer] for large ones.
func (c *call) Write(p []byte) (int, error) {
	if c.status == 0 {
		c.WriteHeader(http.StatusOK)
	}
	return c.ResponseWriter.Write(p)
}

// ServeHTTP implements [http.Handler].
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &call{ResponseWriter: w, control: http.NewResponseController(w), r: r, id: requestID(r.Header.Get("X-Request-Id"))}
	defer a.finish(c, time.Now())
	defer c.answerPanic()
	c.Header().Set("X-Request-Id", c.id)
	c.Header().Set("Cache-Control", "no-store")
	_ = c.control.SetReadDeadline(time.Now().Add(a.bodyTimeout)) // see WriteHeader
	if p := a.admit(c); p != nil {
		c.fail(p)
		return
	}
	a.admitted.ServeHTTP(c.ResponseWriter, r.WithContext(context.WithValue(r.Context(), callKey{}, c)))
}

// isConsole reports whether a request is one for the console.
func (a *API) isConsole(r *http.Request) bool {
	return a.Console != nil && r.URL.Path != "/healthz" && r.URL.Path != "/v1" && !strings.HasPrefix(r.URL.Path, "/v1/")
}

// admit returns an error if a request must not be routed.
func (a *API) admit(c *call) error {
	size := len(c.r.RequestURI)
	for name, values := range c.r.Header {
		for _, v := range values {
			size += len(name) + len(v) + len(": \r\n")
		}
	}
	if size > maxHeaders {
		return headersTooLarge()
	}
	if c.r.URL.Path == "/healthz" {
		return nil
	}
	public := c.r.URL.Path == documentPath && c.isRead()
	for _, name := range []string{"Authorization", "Content-Type", "Content-Encoding"} {
		if len(c.r.Header.Values(name)) > 1 { // a proxy may use a different one than the API
			return malformed(name, "is given twice; send it once")
		}
	}
	if a.isConsole(c.r) {
		return nil
	}
	if !public {
		if err := a.authenticate(c); err != nil {
			return err
		}
	}
	if isClean(c.r.URL.EscapedPath()) {
		return nil
	}
	return noSuchPath()
}

func (a *API) verify(c *call, presented string) (apikey.Key, error) {
	ctx, cancel := context.WithTimeout(c.r.Context(), a.timeout)
	defer cancel()
	return a.Keys.Verify(ctx, presented)
}

// isClean reports whether a path has no part that makes the mux redirect it.
func isClean(path string) bool {
	if !strings.HasPrefix(path, "/") {
		return false
	}
	parts := strings.Split(path[1:], "/")
	return !slices.ContainsFunc(parts, func(p string) bool { return p == "" || p == "." || p == ".." })
}

// requestID returns the ID that the client sent if it is safe to log, or a new one.
func requestID(given string) string {
	safe := given != "" && len(given) <= 64 && !strings.ContainsFunc(given, func(c rune) bool {
		return (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && !strings.ContainsRune("-_.:", c)
	})
	if safe {
		return given
	}
	return uuid.NewString()
}

// answerPanic responds to a panic. If the response has begun, it aborts the connection.
func (c *call) answerPanic() {
	p := recover()
	if p == nil {
		return
	}
	if p == http.ErrAbortHandler { //nolint:errorlint // net/http compares it like this
		panic(p)
	}
	bug := panicked(p)
	if c.cause = bug.cause; c.status != 0 {
		panic(http.ErrAbortHandler)
	}
	bug.write(c)
}

// finish runs after every request. It limits the time for the rest of the body, and logs
// the request.
func (a *API) finish(c *call, began time.Time) {
	p := recover()
	_ = c.control.SetReadDeadline(time.Now().Add(a.bodyTimeout))
	a.log(c, began)
	if p != nil {
		panic(p)
	}
}

// log writes one line per request. It omits path and query, which may contain personal
// data.
func (a *API) log(c *call, began time.Time) {
	took := time.Since(began)
	if a.Meter != nil {
		_, path, _ := strings.Cut(c.r.Pattern, "/")
		if path != "" {
			path = "/" + path
		}
		a.Meter.Request(c.r.Method, path, c.status, took)
	}
	if c.unlogged {
		return
	}
	log := a.Log.Info
	if c.cause != nil {
		log = a.Log.Warn
	}
	log("request", zap.String("method", method(c.r.Method)), zap.String("route", c.r.Pattern), zap.Int("status", c.status),
		zap.Duration("took", took), zap.String("request_id", c.id), zap.String("key", c.key.Name), traceID(c.r.Context()), zap.Error(c.cause))
}

// traceID returns the log field with the ID of the trace; none unless it is sampled.
func traceID(ctx context.Context) zap.Field {
	id := tracing.TraceID(ctx)
	if id == "" {
		return zap.Skip()
	}
	return zap.String("trace_id", id)
}

// method returns a method for the log. A client may invent a long one.
func method(m string) string {
	if len(m) > 10 {
		return "other"
	}
	return m
}

// fail sends the error response if err is not nil. If the response has begun, it aborts
// the connection.
func (c *call) fail(err error) {
	if err == nil {
		return
	}
	gone := errors.Is(err, context.Canceled) && c.r.Context().Err() != nil
	if c.status != 0 || gone {
		if c.cause = err; c.status == 0 {
			c.status = statusGone
		}
		panic(http.ErrAbortHandler)
	}
	p := problemOf(err)
	if authenticated := c.key.ID != ""; authenticated && !c.isRead() && !c.unchanged {
		p.markUncertain()
	}
	c.cause = p.cause
	p.write(c)
}

// isRead reports whether the request changes nothing.
func (c *call) isRead() bool { return c.r.Method == http.MethodGet || c.r.Method == http.MethodHead }

// statusGone is logged if the client disconnects before the response.
const statusGone = 499

// json sends a value as JSON.
func (c *call) json(status int, v any) error {
	c.encode(status, "application/json", v)
	return nil
}

func (c *call) encode(status int, contentType string, v any) {
	body := encoded(v)
	c.Header().Set("Content-Type", contentType)
	c.Header().Set("Content-Length", strconv.Itoa(len(body)))
	c.WriteHeader(status)
	_, _ = c.Write(body) // it fails only if the client has disconnected
}

func encoded(v any) []byte {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(fmt.Sprintf("api: encode %T: %v", v, err))
	}
	return text.Bytes()
}

// query returns the values of the query. It refuses unknown, repeated and empty
// parameters.
func (c *call) query(known ...string) (func(key string) string, error) {
	values, err := url.ParseQuery(c.r.URL.RawQuery)
	if err != nil {
		return nil, malformed("", "the query is malformed: "+err.Error())
	}
	var problems []tasks.Problem
	for key, list := range values {
		switch {
		case !slices.Contains(known, key):
			problems = append(problems, tasks.Problem{Key: key, Message: "unknown query parameter"})
		case len(list) > 1:
			problems = append(problems, tasks.Problem{Key: key, Message: "is given twice"})
		case list[0] == "":
			problems = append(problems, tasks.Problem{Key: key, Message: "is empty; omit it"})
		}
	}
	if len(problems) > 0 {
		slices.SortFunc(problems, func(a, b tasks.Problem) int { return strings.Compare(a.Key, b.Key) })
		return nil, invalid(http.StatusBadRequest, problems)
	}
	return values.Get, nil
}

// onlyQuery refuses all query parameters.
func (c *call) onlyQuery() error {
	_, err := c.query()
	return err
}

// contentType returns the media type of the body, which must be one of want, and its
// charset, which is empty for UTF-8.
func (c *call) contentType(want ...string) (media, charset string, err error) {
	given := c.r.Header.Get("Content-Type")
	media, params, err := mime.ParseMediaType(given)
	if charset = strings.ToLower(params["charset"]); charset == "utf-8" || charset == "utf8" {
		charset = ""
	}
	if err != nil || !slices.Contains(want, media) || (input.Options{Encoding: charset}).Validate() != nil {
		return "", "", wrongMediaType(given, want...)
	}
	if enc := c.r.Header.Get("Content-Encoding"); enc != "" && enc != "identity" {
		return "", "", newProblem(http.StatusUnsupportedMediaType, mediaTypeReason, "Unsupported media type",
			"the body is compressed; send it uncompressed, without Content-Encoding")
	}
	return media, charset, nil
}

// body reads a body with a single request.
func (c *call) body() ([]byte, error) {
	if _, charset, err := c.contentType("application/json"); err != nil {
		return nil, err
	} else if charset != "" {
		return nil, wrongMediaType(c.r.Header.Get("Content-Type"), "application/json")
	}
	if c.r.ContentLength > maxRequest {
		return nil, tooLarge(maxRequest)
	}
	text, err := io.ReadAll(http.MaxBytesReader(c.ResponseWriter, c.r.Body, maxRequest))
	if err != nil {
		return nil, bodyError(err)
	}
	_ = c.control.SetReadDeadline(time.Time{}) // a client that waits for a link is not slow
	return text, nil
}

// hasBody reports whether the request has a body that is not empty.
func (c *call) hasBody() bool {
	if c.r.ContentLength >= 0 {
		return c.r.ContentLength > 0
	}
	first := bufio.NewReader(c.r.Body)
	_, err := first.Peek(1)
	c.r.Body = struct {
		io.Reader
		io.Closer
	}{first, c.r.Body}
	return !errors.Is(err, io.EOF)
}

// object reads a body with one JSON object into a struct. Unknown keys are errors.
func (c *call) object(into any) error {
	text, err := c.body()
	if err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	err = dec.Decode(into)
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && wrong.Field != "" {
		return malformed(wrong.Field, fmt.Sprintf("must not be a %s", wrong.Value))
	}
	if name, ok := strings.CutPrefix(fmt.Sprint(err), "json: unknown field "); ok {
		return malformed("", "the body has the unknown key "+legible.Shorten(name))
	}
	if _, end := dec.Token(); err != nil || !errors.Is(end, io.EOF) || !bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) {
		return malformed("", "the body is not one JSON object")
	}
	return nil
}

// bodyError converts an error of reading a body.
func bodyError(err error) error {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return err
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return tooSlow()
	}
	return malformed("", "the body is incomplete")
}

// noBody is [call.query] for requests without a body. A body is ignored.
func (c *call) noBody(known ...string) error {
	_ = c.control.SetReadDeadline(time.Time{})
	_, err := c.query(known...)
	return err
}
