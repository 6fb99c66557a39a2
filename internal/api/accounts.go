package api

import (
	"context"
	"net/http"
)

func (a *API) getAccount(c *call) error {
	if err := c.noBody(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), a.timeout)
	defer cancel()
	return a.showAccount(ctx, c)
}

// showAccount responds with the state of the account.
func (a *API) showAccount(ctx context.Context, c *call) error {
	s, err := a.Stores.Account.Status(ctx)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, s)
}

func (a *API) pauseAccount(c *call) error { return a.changeAccount(c, "account.pause", a.account.Pause) }

func (a *API) resumeAccount(c *call) error {
	return a.changeAccount(c, "account.resume", a.account.Resume)
}

// changeAccount applies an operator action and responds with the state of the account.
func (a *API) changeAccount(c *call, action string, do func(context.Context) error) error {
	if err := c.noBody(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), a.timeout)
	defer cancel()
	if err := a.record(ctx, c, action, ""); err != nil {
		return err
	}
	if err := do(ctx); err != nil {
		return err
	}
	return a.showAccount(ctx, c)
}
