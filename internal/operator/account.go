package operator

import (
	"context"

	"github.com/kyclink/kyclink/internal/account"
	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/results"
)

// Gate is an account's gate as it is shown.
type Gate = admission.GateStatus

// Account reads the account's gate, rate, backlog and workers.
func (o *Operator) Account(ctx context.Context) (account.Status, error) {
	return o.stores.Account.Status(ctx)
}

// Results reads how full the results stream is, and how far behind its groups are.
func (o *Operator) Results(ctx context.Context) (results.Status, error) {
	return o.stores.Results.Status(ctx)
}
