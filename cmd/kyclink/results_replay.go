package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/time/rate"

	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/operator"
)

type replayOptions struct {
	operator.Replay
	rate   string
	asJSON bool
}

func newResultsReplay() *cobra.Command {
	o := &replayOptions{}
	cmd := &cobra.Command{
		Use:   "replay",
		Short: "Publish events again",
		Long: `Publish the events of ended requests again, from their records. This restores events that
the stream's cap removed, or that a receiver lost. Replayed events have the same IDs and
are marked as replayed, so that consumers can recognise duplicates.

A replay includes the ends of earlier runs and generations, with the current numbers of
attempts. It does not include link.held, which is not an end. It waits while a live group
has to acknowledge more than half of the stream's cap.

To continue an interrupted replay, run the same command again within an hour.`,
		Example: `  kyclink results replay --id A-1001
  kyclink results replay --batch spring --rate 200/s
  kyclink results replay --since 2026-12-01T00:00:00Z`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(cmd); err != nil {
				return err
			}
			return withShared(cmd, func(e *engine) error { return o.run(cmd, e) })
		},
	}
	cmd.Flags().StringArrayVar(&o.Selection.IDs, "id", nil, "only events of application `ID`; may be repeated")
	cmd.Flags().StringVar(&o.Selection.Batch, "batch", "", "only events of batch `NAME`")
	cmd.Flags().StringVar(&o.Selection.Since, "since", "", "only requests that ended at or after `TIME`, such as 2026-12-01T00:00:00Z, or an age such as 2h")
	cmd.Flags().StringVar(&o.rate, "rate", "1000/s", "at most `RATE` events, such as 200/s")
	for _, name := range []string{"restart", "anew"} { // anew is the former name
		cmd.Flags().BoolVar(&o.Restart, name, false, "start from the beginning, even if an earlier replay was interrupted")
	}
	_ = cmd.Flags().MarkHidden("anew")
	cmd.Flags().BoolVar(&o.asJSON, "json", false, "print the number of published events as JSON")
	return cmd
}

func (o *replayOptions) check(cmd *cobra.Command) error {
	switch s := o.Selection; {
	case len(s.IDs) > 0 && s.Batch != "":
		return usageError(cmd, errors.New("--id and --batch exclude each other; give one of them"))
	case len(s.IDs) == 0 && s.Batch == "" && s.Since == "":
		return usageError(cmd, errors.New("nothing is selected; give --id, --batch or --since"))
	}
	if o.Selection.Since != "" {
		if _, err := operator.ParseTime(o.Selection.Since, time.Now()); err != nil {
			return usageError(cmd, fmt.Errorf("--since: %w", err))
		}
	}
	limit, err := admission.ParseRate(o.rate)
	if err != nil {
		return usageError(cmd, fmt.Errorf("--rate: %w", err))
	}
	o.Limit = rate.NewLimiter(rate.Limit(float64(limit.N)/limit.Per.Seconds()), operator.ReplayBurst)
	return nil
}

func (o *replayOptions) run(cmd *cobra.Command, e *engine) error {
	ctx, op := cmd.Context(), e.operator()
	if o.Selection.Batch != "" {
		if _, err := op.BatchNumber(ctx, o.Selection.Batch); err != nil {
			return err
		}
	}
	if err := e.audit(ctx, "results.replay", o.Selection.Targets()...); err != nil {
		return err
	}
	say := func(format string, args ...any) { fmt.Fprintf(cmd.ErrOrStderr(), "kyclink: "+format+"\n", args...) }
	o.Continues = func(published int) {
		say("continuing an interrupted replay after %s; use --restart to start from the beginning", number(published, "event"))
	}
	o.Progress = func(published int) { say("%s so far", number(published, "event")) }
	o.Waiting = func(group string, n int) {
		say("waiting for group %s, which has to acknowledge %s: publishing more could remove some of them from the stream", group, number(n, "event"))
	}
	published, earlier, err := o.Run(ctx, op)
	summary := count(published) + " published again"
	if earlier > 0 {
		summary += fmt.Sprintf(", %s of them earlier", count(earlier))
	}
	switch ids := o.Selection.IDs; {
	case err != nil:
		return incomplete(ctx, err, summary)
	case len(ids) > 0 && published == 0:
		return fmt.Errorf("no ended request with ID %s is stored in account %q; to show the status of a request: kyclink show ID", strings.Join(ids, ", "), e.cfg.Account)
	case o.asJSON:
		return printJSON(cmd.OutOrStdout(), map[string]int{"published": published})
	}
	say("%s", summary)
	return nil
}
