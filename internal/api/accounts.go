package api

import (
	"context"
	"fmt"
	"net/http"
	"slices"

	"github.com/kyclink/kyclink/internal/activity"
	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/legible"
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

// pauseAccount closes the gate. The body, which may be missing, says why.
func (a *API) pauseAccount(c *call) error {
	if err := c.onlyQuery(); err != nil {
		return err
	}
	var pause struct {
		Reason string `json:"reason"`
	}
	if c.hasBody() {
		if err := c.object(&pause); err != nil {
			return err
		}
	}
	if wrong := legible.WrongName(pause.Reason, admission.MaxPauseReason); pause.Reason != "" && wrong != "" {
		return wrongValue("reason", wrong)
	}
	return a.changeAccount(c, "account.pause", pause.Reason, func(ctx context.Context) error {
		return a.account.Pause(ctx, c.key.Name, pause.Reason)
	})
}

func (a *API) resumeAccount(c *call) error {
	if err := c.noBody(); err != nil {
		return err
	}
	return a.changeAccount(c, "account.resume", "", a.account.Resume)
}

// setRate overrides the rate of the workers.
func (a *API) setRate(c *call) error {
	if err := c.onlyQuery(); err != nil {
		return err
	}
	var wanted struct {
		Rate  string `json:"rate"`
		Burst *int   `json:"burst"`
	}
	if err := c.object(&wanted); err != nil {
		return err
	}
	rate, err := admission.ParseRate(wanted.Rate)
	if err != nil {
		return wrongValue("rate", err.Error())
	}
	target, burst := rate.String(), 0
	if wanted.Burst != nil {
		if burst = *wanted.Burst; burst < admission.MinBurst || burst > admission.MaxBurst {
			return wrongValue("burst", fmt.Sprintf("must be from %d to %d; omit it to keep that of the workers", admission.MinBurst, admission.MaxBurst))
		}
		target += fmt.Sprintf(" burst %d", burst)
	}
	return a.changeAccount(c, "account.rate", target, func(ctx context.Context) error {
		_, err := a.account.OverrideRate(ctx, rate, burst)
		return err
	})
}

// resetRate puts the rate of the workers in force again.
func (a *API) resetRate(c *call) error {
	if err := c.noBody(); err != nil {
		return err
	}
	return a.changeAccount(c, "account.rate", "reset", func(ctx context.Context) error {
		_, err := a.account.ResetRate(ctx)
		return err
	})
}

// changeAccount applies an operator action and responds with the state of the account.
func (a *API) changeAccount(c *call, action, target string, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(c.r.Context(), a.timeout)
	defer cancel()
	if err := a.record(ctx, c, action, target); err != nil {
		return err
	}
	if err := do(ctx); err != nil {
		return err
	}
	return a.showAccount(ctx, c)
}

// gateHistory is the response with the changes of the gate, the latest first.
type gateHistory struct {
	History []admission.HistoryEntry `json:"history"`
}

func (a *API) getGateHistory(c *call) error {
	if err := c.noBody(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), a.timeout)
	defer cancel()
	s, err := admission.Read(ctx, a.Redis, a.Stores.Keys)
	if err != nil {
		return err
	}
	slices.Reverse(s.History)
	return c.json(http.StatusOK, gateHistory{s.History})
}

// getActivity returns the links and faults of each minute of the last hour, and when the gate
// was closed.
func (a *API) getActivity(c *call) error {
	if err := c.noBody(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), a.timeout)
	defer cancel()
	hour, err := a.Stores.Activity.Hour(ctx)
	if err != nil {
		return err
	}
	if hour.Closed == nil {
		hour.Closed = []activity.Period{}
	}
	return c.json(http.StatusOK, hour)
}
