package console

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/audit"
)

// maxForm is the most bytes of a form.
const maxForm = 64 << 10

// visit is one HTTP request and its response.
type visit struct {
	w       http.ResponseWriter
	r       *http.Request
	session session // the zero value if nobody is signed in
}

// pageError is an error that a page explains.
type pageError struct {
	Status      int
	Title, Text string
}

func (e *pageError) Error() string { return e.Title + ": " + e.Text }

// open handles requests of anyone.
func (c *Console) open(handle handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { c.run(&visit{w: w, r: r}, handle) }
}

// signedIn handles requests of browsers that are signed in with a key of a scope.
func (c *Console) signedIn(scope apikey.Scope, handle handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c.run(&visit{w: w, r: r}, func(ctx context.Context, v *visit) error { return c.admit(ctx, v, scope, handle) })
	}
}

// admit calls handle if the browser is signed in with a key of a scope.
func (c *Console) admit(ctx context.Context, v *visit, scope apikey.Scope, handle handler) (err error) {
	if v.session, err = c.sessions.get(ctx, c.Keys, v.r, v.r.URL.Path != livePath); err != nil {
		return err
	}
	v.signedInAs(v.session.key)
	switch {
	case v.session.token == "" && isRead(v.r) && v.r.Header.Get("Sec-Fetch-Site") == "cross-site":
		// The browser withheld the cookie because a page of another site led here.
		return c.show(v, http.StatusOK, "continue", "Continue", v.r.URL.RequestURI())
	case v.session.token == "" && isRead(v.r) && v.r.URL.Path != livePath:
		return v.redirect("/sign-in?next=" + url.QueryEscape(v.r.URL.RequestURI()))
	case v.session.token == "":
		return &pageError{http.StatusUnauthorized, "Signed out", "Your session has ended, so that nothing was changed. Sign in and try again."}
	case !v.session.key.Allows(scope):
		return &pageError{
			http.StatusForbidden, "Not allowed",
			"Your API key " + quoted(v.session.key.Name) + " does not have the scope " + string(scope) + ". Nothing was changed.",
		}
	}
	return handle(ctx, v)
}

// run handles a request, and shows the error if that fails.
func (c *Console) run(v *visit, handle handler) {
	control := http.NewResponseController(v.w)
	_ = control.SetReadDeadline(deadline(c.timeout)) // test recorders have no deadline
	ctx, cancel := context.WithTimeout(v.r.Context(), c.timeout)
	defer cancel()
	v.r.Body = http.MaxBytesReader(v.w, v.r.Body, maxForm)
	if err := v.r.ParseForm(); err != nil {
		c.fail(v, &pageError{http.StatusBadRequest, "Request not understood", "The form or the address is damaged or too large."})
		return
	}
	// Otherwise, it would end the request's context, and a slow page could not show its error.
	_ = control.SetReadDeadline(time.Time{})
	if err := handle(ctx, v); err != nil {
		c.fail(v, err)
	}
}

// fail shows an error.
func (c *Console) fail(v *visit, err error) {
	if v.r.Context().Err() != nil { // the browser has gone
		return
	}
	shown, ok := errors.AsType[*pageError](err)
	if !ok {
		c.Log.Warn("console page failed", zap.String("route", v.r.Pattern), zap.String("request_id", v.requestID()), zap.Error(err))
		shown = &pageError{http.StatusServiceUnavailable, "Redis does not answer", "The page could not be read completely. Try again in a few seconds."}
		if changes(v.r) {
			shown.Text = "It is not certain whether your change was made. Look at the page again in a few seconds."
		}
	}
	if err := c.show(v, shown.Status, "error", shown.Title, shown); err != nil {
		c.Log.Error("console error page failed", zap.Error(err))
	}
}

func isRead(r *http.Request) bool { return r.Method == http.MethodGet || r.Method == http.MethodHead }

// changes reports whether a request may have changed something. Some forms only read, but are
// sent with POST: what is in them is too large for an address, or must not be in one.
func changes(r *http.Request) bool {
	switch r.Pattern {
	case "POST /sign-in", "POST /request/reveal", "POST /actions/plan", "POST /batches/check", "POST /batches/rejects", "POST /batch/export":
		return false
	}
	return !isRead(r)
}

// requestID returns the ID that the log has for the request.
func (v *visit) requestID() string { return v.w.Header().Get("X-Request-Id") }

// layout is what every page shows.
type layout struct {
	Title, Account, Path string
	Key                  apikey.Key // without an ID if nobody is signed in
	Operator             bool
	Done                 string // what the previous request did
	RequestID            string
	Page                 any
}

// show sends a page.
func (c *Console) show(v *visit, status int, name, title string, page any) error {
	key := v.session.key
	var text bytes.Buffer
	err := c.templates[name].ExecuteTemplate(&text, "layout", layout{
		Title: title, Account: c.Stores.Keys.Account, Path: v.r.URL.Path, Key: key, Operator: key.Allows(apikey.Operate),
		Done: doneText(v.r), RequestID: v.requestID(), Page: page,
	})
	if err != nil {
		return err
	}
	v.send(status, text.Bytes())
	return nil
}

// fragment sends a part of a page.
func (c *Console) fragment(v *visit, page, name string, data any) error {
	var text bytes.Buffer
	if err := c.templates[page].ExecuteTemplate(&text, name, data); err != nil {
		return err
	}
	v.send(http.StatusOK, text.Bytes())
	return nil
}

func (v *visit) send(status int, body []byte) {
	v.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	v.w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	v.w.WriteHeader(status)
	_, _ = v.w.Write(body) // if this fails, the browser has gone
}

// redirect sends the browser to a page of the console.
func (v *visit) redirect(to string) error {
	v.w.Header().Set("Location", to)
	v.w.WriteHeader(http.StatusSeeOther)
	return nil
}

// signedInAs reports whose request this is to the server, for its log.
func (v *visit) signedInAs(key apikey.Key) {
	if log, ok := v.w.(interface{ SignedIn(key apikey.Key) }); ok {
		log.SignedIn(key)
	}
}

// record stores a change in the audit trail. Call it before making the change, so that no
// change is missing there.
func (c *Console) record(ctx context.Context, v *visit, action, target string) error {
	return c.Audit.Append(ctx, audit.Change{Key: v.session.key, Action: action, Target: target, RequestID: v.requestID()})
}

// confirmed returns an error unless the form repeats a name, which destructive actions
// require.
func (v *visit) confirmed(name string) error {
	if v.r.PostFormValue("confirm") == name {
		return nil
	}
	return &pageError{
		http.StatusUnprocessableEntity, "Not confirmed",
		"To confirm, type exactly " + quoted(name) + ". Nothing was changed.",
	}
}

// done redirects to a page that says what was done. what is a key of [doneText]'s table.
func (v *visit) done(page string, query url.Values, what string) error {
	query = cloneValues(query)
	query.Set("done", what)
	return v.redirect(page + "?" + query.Encode())
}

func cloneValues(q url.Values) url.Values {
	clone := url.Values{}
	for k, list := range q {
		clone[k] = list
	}
	return clone
}

// doneText returns the message for what the previous request did. Only messages of the
// table are shown, so that an address cannot make a page say something else.
func doneText(r *http.Request) string {
	return map[string]string{
		"retried":        "The request is retried.",
		"dropped":        "The request was dropped.",
		"cancelled":      "The request was cancelled.",
		"cancel_asked":   "The request is being called. It is cancelled when the call is answered.",
		"forgotten":      "The request was erased, and everything in Redis that named it.",
		"batch_paused":   "The batch is paused.",
		"batch_resumed":  "The batch continues.",
		"batch_cancel":   "The batch was cancelled.",
		"aborted":        "The action was aborted. What it has changed stays changed.",
		"same_action":    "Nothing was started: this action changes the same entries already.",
		"account_paused": "The account is paused: no call is made until it is resumed.",
		"account_resume": "The account continues.",
		"rate":           "The rate was changed for the running workers.",
		"rate_reset":     "The workers' own rate is in force again.",
		"key_revoked":    "The API key is revoked. Every process refuses it within two seconds.",
	}[r.URL.Query().Get("done")]
}
