package main

import (
	"cmp"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/bulk"
	"github.com/kyclink/kyclink/internal/config"
)

// outlook is at which rate links are made, and after how many others.
type outlook struct {
	perSecond float64
	before    int
}

// after is when that many rows have their links.
func (p outlook) after(rows int) time.Duration {
	return time.Duration(float64(p.before+rows) / p.perSecond * float64(time.Second))
}

// expired is how many of the rows' links expire before the last one is made. Rows
// of one expiry are taken to be spread evenly over the file.
func (p outlook) expired(rows int, expiries map[int]int, byDefault int) int {
	span, early := float64(rows)/p.perSecond, 0.0
	for minutes, n := range expiries {
		life := float64(cmp.Or(minutes, byDefault)) * 60
		if span > life {
			early += float64(n) * (span - life) / span
		}
	}
	return int(early)
}

// late is how many of the rows have no link by then.
func (p outlook) late(rows int, left time.Duration) int {
	return min(rows, max(0, rows+p.before-int(left.Seconds()*p.perSecond)))
}

// forecast says how long the rows of a dry run would take, and warns of what
// would be too late.
func forecast(cmd *cobra.Command, e *engine, r bulk.Rehearsal) error {
	account, err := readAccount(cmd.Context(), e)
	if err != nil {
		return err
	}
	rate, err := admission.ParseRate(account.Rate.Limit)
	if err != nil {
		return fmt.Errorf("the account's rate: %w", err)
	}
	w, rows := cmd.ErrOrStderr(), r.Counts.Accepted
	p := outlook{float64(rate.N) / rate.Per.Seconds(), account.Backlog.Interactive + account.Backlog.Bulk}
	took := p.after(rows)
	fmt.Fprintf(w, "kyclink: at the account's rate of %s the %d new links would be made in about %s", account.Rate.Limit, rows, roughly(took))
	if p.before > 0 {
		fmt.Fprintf(w, ", with the %d that wait already", p.before)
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
	if n := p.expired(rows, r.Expiries, byDefault); n > 0 {
		fmt.Fprintf(w, "kyclink: WARNING: %d of the links (%.0f %%) would expire before the batch's last one is made; give more expiry_minutes, or import it in parts\n",
			n, share(n, rows))
	}
	if due := r.Options.NotAfter; !due.IsZero() {
		if n := p.late(rows, time.Until(due)); n > 0 {
			fmt.Fprintf(w, "kyclink: WARNING: %d of the rows (%.0f %%) would have no link by the batch's not_after, %s, and end as failed\n",
				n, share(n, rows), due.Format(time.RFC3339))
		}
	}
	return nil
}

func share(n, of int) float64 { return 100 * float64(n) / float64(of) }

func roughly(d time.Duration) time.Duration {
	switch {
	case d > time.Hour:
		return d.Round(time.Minute)
	case d > time.Minute:
		return d.Round(time.Second)
	}
	return d.Round(100 * time.Millisecond)
}
