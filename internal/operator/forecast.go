package operator

import (
	"context"
	"fmt"
	"time"

	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/forecast"
)

// Planned are rows that an import would accept.
type Planned struct {
	Rows int
	// Expiries counts them by their expiry_minutes, 0 for DefaultExpiry.
	Expiries      map[int]int
	DefaultExpiry int
	NotAfter      time.Time // zero if the batch has none
}

// Forecast is the expected result of planned rows at the account's current rate.
type Forecast struct {
	Rate     string // such as "10/s"
	Gate     Gate
	Backlog  int // requests whose links are created first
	Duration time.Duration
	Done     time.Time
	Expired  int // links that expire before the last one is created
	Late     int // rows that have no link by the batch's not_after
}

// Forecast returns how long the links of planned rows would take, and which of them
// would be too late.
func (o *Operator) Forecast(ctx context.Context, p Planned) (Forecast, error) {
	account, err := o.Account(ctx)
	if err != nil {
		return Forecast{}, err
	}
	rate, err := admission.ParseRate(account.Rate.Limit)
	if err != nil {
		return Forecast{}, fmt.Errorf("the account's rate: %w", err)
	}
	f := Forecast{Rate: account.Rate.Limit, Gate: account.Gate, Backlog: account.Backlog.Interactive + account.Backlog.Bulk}
	links := forecast.Forecast{PerSecond: float64(rate.N) / rate.Per.Seconds(), Before: f.Backlog}
	f.Duration = links.Duration(p.Rows)
	f.Done = time.Now().Add(f.Duration)
	f.Expired = links.Expired(p.Rows, p.Expiries, p.DefaultExpiry)
	if !p.NotAfter.IsZero() {
		f.Late = links.Late(p.Rows, time.Until(p.NotAfter))
	}
	return f, nil
}
