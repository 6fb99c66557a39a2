package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/bulk"
	"github.com/kyclink/kyclink/internal/config"
	"github.com/kyclink/kyclink/internal/forecast"
)

// printForecast says how long the rows of a dry run would take, and warns of what
// would be too late.
func printForecast(cmd *cobra.Command, e *engine, r bulk.DryRun) error {
	account, err := e.operator().Account(cmd.Context())
	if err != nil {
		return err
	}
	rate, err := admission.ParseRate(account.Rate.Limit)
	if err != nil {
		return fmt.Errorf("the account's rate: %w", err)
	}
	w, rows := cmd.ErrOrStderr(), r.Counts.Accepted
	f := forecast.Forecast{PerSecond: float64(rate.N) / rate.Per.Seconds(), Before: account.Backlog.Interactive + account.Backlog.Bulk}
	took := f.Duration(rows)
	fmt.Fprintf(w, "kyclink: at the account's rate of %s the %d new links would be made in about %s", account.Rate.Limit, rows, forecast.Round(took))
	if f.Before > 0 {
		fmt.Fprintf(w, ", with the %d that wait already", f.Before)
	}
	fmt.Fprintf(w, ": by %s\n", time.Now().Add(took).UTC().Format(time.RFC3339))
	if account.Gate.State == "closed" {
		fmt.Fprintf(w, "kyclink: WARNING: the account's gate is closed (%s); nothing is made until it opens\n", account.Gate.Reason)
	}
	byDefault := r.Options.ExpiryMinutes
	if byDefault == 0 {
		work, err := config.LoadWork(os.Environ())
		if err != nil {
			return err
		}
		byDefault = work.ExpiryMinutes
	}
	if n := f.Expired(rows, r.Expiries, byDefault); n > 0 {
		fmt.Fprintf(w, "kyclink: WARNING: %d of the links (%.0f %%) would expire before the batch's last one is made; give more expiry_minutes, or import it in parts\n",
			n, share(n, rows))
	}
	if due := r.Options.NotAfter; !due.IsZero() {
		if n := f.Late(rows, time.Until(due)); n > 0 {
			fmt.Fprintf(w, "kyclink: WARNING: %d of the rows (%.0f %%) would have no link by the batch's not_after, %s, and end as failed\n",
				n, share(n, rows), due.Format(time.RFC3339))
		}
	}
	return nil
}

func share(n, of int) float64 { return 100 * float64(n) / float64(of) }
