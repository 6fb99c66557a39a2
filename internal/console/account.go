package console

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/kyclink/kyclink/internal/account"
	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/audit"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/legible"
)

// accountData is the account's gate and rate.
type accountData struct {
	account.Status
	Now     time.Time
	Changes []gateChange // the latest first
}

// gateChange is a change of the gate and, if an operator made it, who did and why, as far as
// the audit trail says so.
type gateChange struct {
	admission.HistoryEntry
	By, Why string
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
	d := accountData{Status: s, Now: now}
	if d.Changes, err = c.gateChanges(ctx, s.History); err != nil {
		return err
	}
	return c.show(v, http.StatusOK, "account", "Account", d)
}

const (
	// recordedBefore is how long before a change its entry in the audit trail may be written.
	recordedBefore = 10 * time.Second
	// mostRecorded is how many entries of that time are searched, the latest ones.
	mostRecorded = 500
)

// gateChanges returns the history of the gate, which must be in the order of time, with who
// paused and resumed it.
func (c *Console) gateChanges(ctx context.Context, history []admission.HistoryEntry) ([]gateChange, error) {
	changes := make([]gateChange, 0, len(history))
	paused := false
	for _, h := range history {
		change := gateChange{HistoryEntry: h}
		if h.Reason == string(fault.Refused) { // a change of a credential
			changes = append(changes, change)
			continue
		}
		action := map[bool]string{true: "account.resume"}[paused]
		if paused = h.Reason == string(fault.Paused); paused {
			action = "account.pause"
		}
		if action != "" {
			near, _, err := c.Audit.Page(ctx, h.At.Add(-recordedBefore), h.At.Add(time.Millisecond), "", mostRecorded)
			if err != nil {
				return nil, err
			}
			if i := slices.IndexFunc(near, func(a audit.Change) bool { return a.Action == action }); i >= 0 {
				change.By, change.Why = cmp.Or(near[i].Key.Name, near[i].By), near[i].Target
			}
		}
		changes = append(changes, change)
	}
	slices.Reverse(changes)
	return changes, nil
}

func (c *Console) pauseAccount(ctx context.Context, v *visit) error {
	if err := v.confirmed(c.Stores.Keys.Account); err != nil {
		return err
	}
	reason := strings.TrimSpace(v.r.PostFormValue("reason"))
	if wrong := legible.WrongName(reason, admission.MaxPauseReason); reason != "" && wrong != "" {
		return &pageError{http.StatusUnprocessableEntity, "Reason not accepted", "The reason " + wrong + ". Nothing was changed."}
	}
	return c.steerAccount(ctx, v, "account.pause", reason, "account_paused", func(ctx context.Context) error {
		return c.account.Pause(ctx, v.session.key.Name, reason)
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
	limit, err := admission.ParseRate(legible.Shorten(strings.TrimSpace(v.r.PostFormValue("rate"))))
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
