package console

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/hostname"
	"github.com/kyclink/kyclink/internal/legible"
)

// keysData is a page of the list of API keys, the newest first.
type keysData struct {
	Keys  []apikey.Issued
	Next  string // the address of the next page; "" if there is none
	Older bool   // it is not the first page
	// Scopes are those that the session's key can give to a new one.
	Scopes []apikey.Scope
	// Created is a key that this request created; only this page shows it.
	Created *createdKey
}

type createdKey struct {
	apikey.Issued
	Secret string
}

// mostHosts is how many redirect hosts of a key the list shows.
const mostHosts = 5

// Hosts are the redirect hosts of a key, the first ones if it has many.
func (keysData) Hosts(k apikey.Issued) []string {
	return k.RedirectHosts[:min(len(k.RedirectHosts), mostHosts)]
}

// MoreHosts is how many others it has.
func (keysData) MoreHosts(k apikey.Issued) int { return max(0, len(k.RedirectHosts)-mostHosts) }

func (c *Console) keysPage(ctx context.Context, v *visit) error { return c.showKeys(ctx, v, nil) }

func (c *Console) showKeys(ctx context.Context, v *visit, created *createdKey) error {
	keys, err := c.Keys.List(ctx)
	if err != nil {
		return err
	}
	slices.Reverse(keys)
	after := v.r.URL.Query().Get("after")
	if after != "" {
		at := slices.IndexFunc(keys, func(k apikey.Issued) bool { return k.ID == after })
		if at < 0 {
			return &pageError{http.StatusUnprocessableEntity, "No such page", "The address does not continue the list of API keys."}
		}
		keys = keys[at+1:]
	}
	d := keysData{Keys: keys[:min(len(keys), pageSize)], Older: after != "", Scopes: v.session.key.Scopes, Created: created}
	if len(keys) > pageSize {
		d.Next = address("/keys", map[string]string{"after": keys[pageSize-1].ID})
	}
	return c.show(v, http.StatusOK, "keys", "API keys", d)
}

// createKey creates a key and shows it. No key can be made that may do more than the one
// that makes it: a new key has only scopes and redirect hosts of the session's key. That key
// must be given again, so that a session alone, which ends, cannot make a key, which does not.
func (c *Console) createKey(ctx context.Context, v *visit) error {
	own := v.session.key
	name := strings.TrimSpace(v.r.PostFormValue("name"))
	var scopes []apikey.Scope
	for _, s := range v.r.PostForm["scope"] {
		if scopes = append(scopes, apikey.Scope(s)); !own.Allows(apikey.Scope(s)) {
			return &pageError{
				http.StatusForbidden, "Not allowed",
				"Your API key " + quoted(own.Name) + " does not have the scope " + legible.Shorten(s) + ", and cannot give it to another key. No key was created.",
			}
		}
	}
	if err := apikey.Check(name, scopes); err != nil {
		return &pageError{http.StatusUnprocessableEntity, "No key was created", "Correct the form: " + err.Error() + "."}
	}
	hosts, err := redirectHosts(own, v.r.PostFormValue("hosts"))
	if err != nil {
		return err
	}
	if err := c.proveKey(ctx, v); err != nil {
		return err
	}
	secret, issued, err := c.Keys.Create(ctx, name, scopes, hosts...)
	if err != nil {
		return err
	}
	// Its ID is known only now. A key that is not in the audit trail is never shown.
	if err := c.record(ctx, v, "keys.create", issued.ID); err != nil {
		_, revokeErr := c.Keys.Revoke(context.WithoutCancel(ctx), issued.ID)
		return errors.Join(err, revokeErr)
	}
	return c.showKeys(ctx, v, &createdKey{issued, secret})
}

// proveKey returns an error unless the form has the session's key.
func (c *Console) proveKey(ctx context.Context, v *visit) error {
	given, err := c.Keys.Verify(ctx, strings.TrimSpace(v.r.PostFormValue("key")))
	refused, ok := errors.AsType[*apikey.RefusedError](err)
	switch {
	case ok:
		c.Refused(string(refused.Reason))
	case err != nil:
		return err
	case given.ID == v.session.key.ID:
		return nil
	}
	return &pageError{http.StatusForbidden, "Your own key is needed", "Enter the API key with which you signed in. No key was created."}
}

const longestHost = 253 // characters

// redirectHosts returns the redirect hosts of a new key: those that the form names, or else
// those of the key that creates it.
func redirectHosts(own apikey.Key, form string) ([]string, error) {
	named := strings.FieldsFunc(form, func(c rune) bool { return c == ',' || c == ' ' || c == '\n' || c == '\r' || c == '\t' })
	for _, host := range named {
		if err := hostname.CheckPattern(legible.Truncate(host, longestHost)); err != nil {
			return nil, &pageError{http.StatusUnprocessableEntity, "No key was created", "Correct the redirect hosts: " + err.Error() + "."}
		}
		if allowed := own.RedirectHosts; len(allowed) > 0 && !slices.Contains(allowed, host) && !slices.Contains(allowed, "*") {
			return nil, &pageError{
				http.StatusForbidden, "Not allowed",
				"Your API key " + quoted(own.Name) + " is restricted to the redirect hosts " + legible.Truncate(strings.Join(own.RedirectHosts, ", "), mostMessage) +
					", and cannot permit " + host + " to another key. No key was created.",
			}
		}
	}
	if len(named) == 0 {
		named = own.RedirectHosts
	}
	return named, nil
}

// revokeKey revokes any key. That takes power away and gives none, so that the scopes of the
// revoked key do not matter.
func (c *Console) revokeKey(ctx context.Context, v *visit) error {
	id := v.r.PostFormValue("id")
	keys, err := c.Keys.List(ctx)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(keys, func(k apikey.Issued) bool { return k.ID == id })
	if at < 0 {
		return &pageError{http.StatusNotFound, "No such key", "There is no API key with this ID. Nothing was changed."}
	}
	if err := v.confirmed(keys[at].Name); err != nil {
		return err
	}
	if !keys[at].RevokedAt.IsZero() {
		return &pageError{http.StatusConflict, "Already revoked", "The API key " + quoted(keys[at].Name) + " was revoked before. Nothing was changed."}
	}
	if err := c.record(ctx, v, "keys.revoke", id); err != nil {
		return err
	}
	if _, err := c.Keys.Revoke(ctx, id); err != nil && !errors.Is(err, apikey.ErrUnknown) {
		return err
	}
	return v.done("/keys", nil, "key_revoked")
}
