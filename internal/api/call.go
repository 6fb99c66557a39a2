package api

import (
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

	"github.com/kyclink/kyclink/internal/input"
	"github.com/kyclink/kyclink/tasks"
)

const (
	maxHeaders = 16 << 10         // bytes, of all
	maxRequest = 64 << 10         // bytes, of a body that is one request
	bodyWithin = 10 * time.Second // of such a body
	// patience is for how long nothing may come, or be taken, of a body that is
	// streamed; beyond that it has to move at leastPace. An upload begins with
	// firstPatience and has to earn the rest: it keeps others from its batch.
	patience      = 30 * time.Second
	firstPatience = 5 * time.Second
	leastPace     = 1 << 10 // bytes a second
	// atOnce is how long an answer that waits for nobody may take, and for how long
	// Redis may be silent.
	atOnce = 5 * time.Second
)

// call is one HTTP request, and what answers it. It is for one goroutine.
type call struct {
	http.ResponseWriter
	control *http.ResponseController
	r       *http.Request
	id      string
	key     Key
	// presented is the key itself, for looking whether it was revoked.
	presented string
	unlogged  bool // there is no line for it, or another one
	status    int  // 0: not answered yet
	cause     error
}

// Unwrap lets an [http.ResponseController] reach the connection.
func (c *call) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// WriteHeader begins the answer.
func (c *call) WriteHeader(status int) {
	if c.status == 0 {
		c.status = status
		_ = c.control.SetWriteDeadline(time.Now().Add(patience)) // where there is none, there is a test
	}
	c.ResponseWriter.WriteHeader(status)
}

// Write writes what is little; see [paced] for what is much.
func (c *call) Write(p []byte) (int, error) {
	if c.status == 0 {
		c.WriteHeader(http.StatusOK)
	}
	return c.ResponseWriter.Write(p)
}

// ServeHTTP answers any request.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &call{ResponseWriter: w, control: http.NewResponseController(w), r: r, id: requestID(r.Header.Get("X-Request-Id"))}
	defer a.over(c, time.Now())
	c.Header().Set("X-Request-Id", c.id)
	c.Header().Set("Cache-Control", "no-store")
	_ = c.control.SetReadDeadline(time.Now().Add(bodyWithin)) // see WriteHeader
	if p := a.admit(c); p != nil {
		c.fail(p)
		return
	}
	if r.URL.Path == "/healthz" {
		r.Pattern = "/healthz"
		c.fail(a.health(c))
		return
	}
	a.mux.ServeHTTP(c, r)
}

// admit says why a request is not even looked at; nil where it is.
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
	open := c.r.URL.Path == documentPath && c.reads()
	for _, name := range []string{"Authorization", "Content-Type", "Content-Encoding"} {
		if len(c.r.Header.Values(name)) > 1 { // a proxy in front may go by another one than we
			return unreadable(name, "is given twice; send one")
		}
	}
	if !open {
		if err := a.authenticate(c); err != nil {
			return err
		}
	}
	if clean(c.r.URL.EscapedPath()) {
		return nil
	}
	return noSuchPath()
}

func (a *API) verify(c *call, presented string) (Key, error) {
	ctx, cancel := context.WithTimeout(c.r.Context(), a.within)
	defer cancel()
	return a.Keys.Verify(ctx, presented)
}

// clean says that a path is one that the mux would not send elsewhere.
func clean(path string) bool {
	if !strings.HasPrefix(path, "/") {
		return false
	}
	parts := strings.Split(path[1:], "/")
	return !slices.ContainsFunc(parts, func(p string) bool { return p == "" || p == "." || p == ".." })
}

// requestID is the caller's, if it can be shown everywhere.
func requestID(given string) string {
	sane := given != "" && len(given) <= 64 && !strings.ContainsFunc(given, func(c rune) bool {
		return (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && !strings.ContainsRune("-_.:", c)
	})
	if sane {
		return given
	}
	return uuid.NewString()
}

// over is what follows every request, however it went. What is left of its body
// gets no more time than a body has.
func (a *API) over(c *call, began time.Time) {
	p := recover()
	if p != nil && p != http.ErrAbortHandler { //nolint:errorlint // it is compared so in net/http, too
		bug := panicked(p)
		if c.cause = bug.cause; c.status == 0 {
			bug.write(c)
			p = nil
		}
	}
	_ = c.control.SetReadDeadline(time.Now().Add(bodyWithin))
	a.log(c, began)
	if p != nil {
		panic(http.ErrAbortHandler)
	}
}

// log writes one line a request. Neither path nor query are in it: they may name
// persons.
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
		zap.Duration("took", took), zap.String("request_id", c.id), zap.String("key", c.key.Name), zap.Error(c.cause))
}

// method keeps what somebody made up out of the log.
func method(m string) string {
	if len(m) > 10 {
		return "other"
	}
	return m
}

// fail answers with what an error says; nil where it was answered already.
func (c *call) fail(err error) {
	if err == nil {
		return
	}
	gone := errors.Is(err, context.Canceled) && c.r.Context().Err() != nil
	if c.status != 0 || gone { // it is too late to say so, or nobody is there
		if c.cause = err; c.status == 0 {
			c.status = statusGone
		}
		panic(http.ErrAbortHandler)
	}
	p := problemOf(err)
	if admitted := c.key.ID != ""; admitted && !c.reads() {
		p.doubtful()
	}
	c.cause = p.cause
	p.write(c)
}

// reads says that nothing is to be changed.
func (c *call) reads() bool { return c.r.Method == http.MethodGet || c.r.Method == http.MethodHead }

// statusGone is logged where the client was gone before there was an answer.
const statusGone = 499

// json answers with a value.
func (c *call) json(status int, v any) error {
	c.encode(status, "application/json", v)
	return nil
}

func (c *call) encode(status int, contentType string, v any) {
	body := encoded(v)
	c.Header().Set("Content-Type", contentType)
	c.Header().Set("Content-Length", strconv.Itoa(len(body)))
	c.WriteHeader(status)
	_, _ = c.Write(body) // whoever does not take it has gone
}

func encoded(v any) []byte {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(fmt.Sprintf("api: %T cannot be encoded: %v", v, err))
	}
	return text.Bytes()
}

// query gives the values of the query, of which there may be these and no others,
// each once.
func (c *call) query(known ...string) (func(key string) string, error) {
	values, err := url.ParseQuery(c.r.URL.RawQuery)
	if err != nil {
		return nil, unreadable("", "the query cannot be read: "+err.Error())
	}
	var problems []tasks.Problem
	for key, list := range values {
		switch {
		case !slices.Contains(known, key):
			problems = append(problems, tasks.Problem{Key: key, Message: "unknown query parameter"})
		case len(list) > 1:
			problems = append(problems, tasks.Problem{Key: key, Message: "is given twice"})
		case list[0] == "":
			problems = append(problems, tasks.Problem{Key: key, Message: "is empty; leave it out where nothing is given"})
		}
	}
	if len(problems) > 0 {
		slices.SortFunc(problems, func(a, b tasks.Problem) int { return strings.Compare(a.Key, b.Key) })
		return nil, invalid(http.StatusBadRequest, problems)
	}
	return values.Get, nil
}

// onlyQuery is [call.query] where nothing but that is wanted.
func (c *call) onlyQuery() error {
	_, err := c.query()
	return err
}

// contentType reads the type of the body, and its charset, which must be a known
// one; empty where it is UTF-8.
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
		return "", "", newProblem(http.StatusUnsupportedMediaType, mediaTypeReason, "The body is of another type",
			"the body is compressed; send it as it is, without Content-Encoding")
	}
	return media, charset, nil
}

// body reads a body that is one request.
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
		return nil, notRead(err)
	}
	_ = c.control.SetReadDeadline(time.Time{}) // whoever waits for a link is not slow
	return text, nil
}

// notRead says why a body could not be read.
func notRead(err error) error {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return err
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return tooSlow()
	}
	return unreadable("", "the body broke off")
}

// noBody is [call.query] for requests that need no body; one that is there is
// left alone.
func (c *call) noBody(known ...string) error {
	_ = c.control.SetReadDeadline(time.Time{})
	_, err := c.query(known...)
	return err
}
