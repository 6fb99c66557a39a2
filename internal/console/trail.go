package console

import (
	"context"
	"net/http"
	"net/url"
	"regexp"
	"time"

	"github.com/kyclink/kyclink/internal/audit"
)

// auditData is a part of the audit trail, the newest first.
type auditData struct {
	Changes []audit.Change
	Next    string // the address of the next page; "" if there is none
	Older   bool   // it is not the first page
}

// entryID matches the ID of an entry of a stream.
var entryID = regexp.MustCompile(`^[0-9]{1,19}-[0-9]{1,19}$`)

func (c *Console) auditPage(ctx context.Context, v *visit) error {
	after := v.r.FormValue("after")
	if after != "" && !entryID.MatchString(after) {
		return &pageError{http.StatusUnprocessableEntity, "No such page", "The address does not continue the audit trail."}
	}
	changes, next, err := c.Audit.Page(ctx, time.Time{}, time.Time{}, after, 2*pageSize)
	if err != nil {
		return err
	}
	d := auditData{Changes: changes, Older: after != ""}
	if next != "" {
		d.Next = "/audit?" + url.Values{"after": {next}}.Encode()
	}
	return c.show(v, http.StatusOK, "audit", "Audit trail", d)
}
