package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/kyclink/kyclink/internal/bulk"
	"github.com/kyclink/kyclink/internal/config"
	"github.com/kyclink/kyclink/internal/forecast"
	"github.com/kyclink/kyclink/internal/operator"
)

// forecastImport prints how long the links of a dry run's rows would take, and warns of
// links that would be too late.
func forecastImport(cmd *cobra.Command, op *operator.Operator, r bulk.DryRun) error {
	planned := operator.Planned{
		Rows: r.Counts.Accepted, Expiries: r.Expiries, DefaultExpiry: r.Options.ExpiryMinutes, NotAfter: r.Options.NotAfter,
	}
	if planned.DefaultExpiry == 0 {
		work, err := config.LoadWork(os.Environ())
		if err != nil {
			return err
		}
		planned.DefaultExpiry = work.ExpiryMinutes
	}
	f, err := op.Forecast(cmd.Context(), planned)
	if err != nil {
		return err
	}
	printForecast(cmd.ErrOrStderr(), planned, f)
	return nil
}

func printForecast(w io.Writer, planned operator.Planned, f operator.Forecast) {
	before := ""
	if f.Backlog > 0 {
		before = fmt.Sprintf(", after the %s in the backlog", count(f.Backlog))
	}
	fmt.Fprintf(w, "kyclink: at the account's rate of %s, %s would take about %s%s; done by %s\n",
		f.Rate, number(planned.Rows, "new link"), forecast.Short(forecast.Round(f.Duration)), before, moment(f.Done))
	if f.Gate.State == "closed" {
		fmt.Fprintf(w, "kyclink: WARNING: the account's gate is closed (%s); no link is created until it opens\n", f.Gate.Reason)
	}
	if n := f.Expired; n > 0 {
		fmt.Fprintf(w, "kyclink: WARNING: %s (%.0f %%) would expire before the batch's last one is created; increase expiry_minutes, or import the file in parts\n",
			number(n, "link"), share(n, planned.Rows))
	}
	if n := f.Late; n > 0 {
		fmt.Fprintf(w, "kyclink: WARNING: %s (%.0f %%) would fail, with no link by the batch's not_after (%s); import the file in parts, or use a later not_after\n",
			number(n, "row"), share(n, planned.Rows), moment(planned.NotAfter))
	}
}

// share returns n of all as a percentage.
func share(n, of int) float64 { return 100 * float64(n) / float64(of) }
