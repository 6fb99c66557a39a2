package api

import (
	"context"
	"net/http"

	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/diagnosis"
	"github.com/kyclink/kyclink/tasks"
)

// unendedLink is a link with the reason why it does not exist yet.
type unendedLink struct {
	tasks.Link
	Diagnosis *diagnosis.Diagnosis `json:"diagnosis,omitempty"`
}

// unended adds the reason why a link does not exist yet, if it can be read.
func (a *API) unended(c *call, link tasks.Link) unendedLink {
	ctx, cancel := context.WithTimeout(c.r.Context(), a.diagnosisTimeout)
	defer cancel()
	now, err := a.snapshots.Snapshot(ctx)
	if err != nil {
		return unendedLink{Link: link}
	}
	if !c.key.Allows(apikey.Read) { // an operator wrote these for operators
		now.Gate.PausedBy, now.Gate.PauseReason = "", ""
	}
	state, err := a.reader().Request(ctx, now, link)
	if err != nil {
		return unendedLink{Link: link}
	}
	d := diagnosis.Request(now, state)
	return unendedLink{link, &d}
}

func (a *API) reader() *diagnosis.Reader { return diagnosis.NewReader(a.Redis, a.Stores) }

// status is the diagnosis of the account.
type status struct {
	Account string `json:"account"`
	diagnosis.Diagnosis
}

// getStatus responds with the diagnosis of the account.
func (a *API) getStatus(c *call) error {
	if err := c.noBody(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), a.timeout)
	defer cancel()
	now, err := a.snapshots.Snapshot(ctx)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, status{now.Account, diagnosis.Account(now)})
}
