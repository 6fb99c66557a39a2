package console

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/kyclink/kyclink/internal/account"
	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/fault"
)

// accountData is the account's gate and rate.
type accountData struct {
	account.Status
	Now     time.Time
	Changes []admission.HistoryEntry // of the gate, the latest first
}

// Paused reports whether an operator paused the account.
func (d accountData) Paused() bool { return d.Gate.Reason == string(fault.Paused) }

func (c *Console) accountPage(ctx context.Context, v *visit) error {
	s, err := c.Stores.Account.Status(ctx)
	if err != nil {
		return err
	}
	now, err := c.operator.Now(ctx)
	if err != nil {
		return err
	}
	d := accountData{Status: s, Now: now, Changes: slices.Clone(s.History)}
	slices.Reverse(d.Changes)
	return c.show(v, http.StatusOK, "account", "Account", d)
}

func (c *Console) pauseAccount(ctx context.Context, v *visit) error {
	if err := v.confirmed(c.Stores.Keys.Account); err != nil {
		return err
	}
	return c.steerAccount(ctx, v, "account.pause", "", "account_paused", func(ctx context.Context) error {
		return c.account.Pause(ctx, v.session.key.Name, "")
	})
}

func (c *Console) resumeAccount(ctx context.Context, v *visit) error {
	return c.steerAccount(ctx, v, "account.resume", "", "account_resume", c.account.Resume)
}

// setRate overrides the workers' rate, or puts it in force again.
func (c *Console) setRate(ctx context.Context, v *visit) error {
	if v.r.PostFormValue("reset") != "" {
		return c.steerAccount(ctx, v, "account.rate", "reset", "rate_reset", func(ctx context.Context) error {
			_, err := c.account.ResetRate(ctx)
			return err
		})
	}
	limit, err := admission.ParseRate(strings.TrimSpace(v.r.PostFormValue("rate")))
	if err != nil {
		return &pageError{http.StatusUnprocessableEntity, "Rate not understood", "Give a rate such as 20/s, 90/m or 500/h: " + err.Error() + ". Nothing was changed."}
	}
	return c.steerAccount(ctx, v, "account.rate", limit.String(), "rate", func(ctx context.Context) error {
		_, err := c.account.OverrideRate(ctx, limit, 0)
		return err
	})
}

// steerAccount records and makes a change of the account.
func (c *Console) steerAccount(ctx context.Context, v *visit, action, target, did string, do func(context.Context) error) error {
	if err := c.record(ctx, v, action, target); err != nil {
		return err
	}
	if err := do(ctx); err != nil {
		return err
	}
	return v.done("/account", nil, did)
}
