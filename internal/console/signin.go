package console

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/apikey"
)

// signInForm is the page of the sign-in.
type signInForm struct {
	Next    string
	Problem string
}

func (c *Console) signInPage(ctx context.Context, v *visit) error {
	next := localPath(v.r.FormValue("next"))
	now, err := c.sessions.get(ctx, c.Keys, v.r, true)
	if err == nil && now.token != "" {
		return v.redirect(next)
	}
	return c.show(v, http.StatusOK, "sign-in", "Sign in", signInForm{Next: next})
}

// localPath returns a path of the console, and never another site's.
func localPath(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.IsAbs() || u.Host != "" || !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.ContainsAny(next, "\\\r\n") {
		return "/"
	}
	return next
}

// signIn begins a session with an API key.
func (c *Console) signIn(ctx context.Context, v *visit) error {
	next := localPath(v.r.PostFormValue("next"))
	if origin, err := url.Parse(v.r.Header.Get("Origin")); err == nil && origin.Scheme == "http" && secure(v.r) {
		return c.show(v, http.StatusUpgradeRequired, "sign-in", "Sign in", signInForm{next,
			"This connection is not encrypted, so that a browser cannot sign in. Open the console with https, or on the server itself as http://localhost."})
	}
	key, err := c.Keys.Verify(ctx, strings.TrimSpace(v.r.PostFormValue("key")))
	if refused, ok := errors.AsType[*apikey.RefusedError](err); ok {
		return c.refuse(v, refused, next)
	}
	if err != nil {
		return err
	}
	if !key.Allows(apikey.Read) {
		return c.show(v, http.StatusForbidden, "sign-in", "Sign in", signInForm{next,
			"The key " + quoted(key.Name) + " does not have the scope read, which the console needs."})
	}
	v.session.key = key
	if err := c.record(ctx, v, "console.sign_in", ""); err != nil {
		return err
	}
	token, err := c.sessions.start(ctx, key.ID)
	if err != nil {
		return err
	}
	setCookie(v.w, v.r, token)
	return v.redirect(next)
}

// refuse answers a sign-in without a valid key.
func (c *Console) refuse(v *visit, why *apikey.RefusedError, next string) error {
	c.Refused(string(why.Reason))
	peer, _ := netip.ParseAddrPort(v.r.RemoteAddr) // the zero address if it is not an IP address
	reservation := c.failed.Of(peer.Addr()).Reserve()
	if delay := reservation.Delay(); delay > 0 {
		reservation.Cancel()
		v.w.Header().Set("Retry-After", strconv.Itoa(int(delay/time.Second)+1))
		return c.show(v, http.StatusTooManyRequests, "sign-in", "Sign in", signInForm{next, "Too many sign-ins without a valid key. Try again in a few seconds."})
	}
	c.Log.Warn("console sign-in without a valid API key", zap.String("reason", string(why.Reason)), zap.Stringer("address", peer.Addr()),
		zap.String("key_id", why.ID), zap.String("request_id", v.requestID()))
	return c.show(v, http.StatusUnauthorized, "sign-in", "Sign in", signInForm{next, "This API key is unknown or was revoked."})
}

// signOut ends the session, or all sessions of its key.
func (c *Console) signOut(ctx context.Context, v *visit) error {
	if v.r.PostFormValue("everywhere") != "" {
		if err := c.record(ctx, v, "console.sign_out_everywhere", ""); err != nil {
			return err
		}
		if err := c.sessions.endAll(ctx, v.session.key.ID); err != nil {
			return err
		}
	}
	if err := c.sessions.end(ctx, v.session.token); err != nil {
		return err
	}
	setCookie(v.w, v.r, "")
	return v.redirect("/sign-in")
}
