package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kyclink/kyclink/internal/operator"
)

type forgetOptions struct {
	consent
	ids            []string
	batch          string
	dryRun, asJSON bool
}

func newForget() *cobra.Command {
	o := &forgetOptions{}
	cmd := &cobra.Command{
		Use:   "forget ID... | --batch NAME",
		Short: "Erase the data of people, or of a batch, from Redis",
		Long: `Erase requests and everything that names them: records with all generations and links,
tasks, callbacks, events in the results stream, IDs in the rows of batches, quarantined
entries, rejects of the intake stream, and entries of the audit trail. Only counters
remain, which count the requests as erased. An erased ID may be requested again, as a new
request.

A request that has not ended is cancelled first. A request that is being called is
skipped, and cancelled when its call is answered: run the command again a few seconds
later.

With --batch, erase what the batch accepted first, cancel the batch, and keep the rows
that joined it.

The command does not erase what is outside Redis: exported files, OUT and OUT.journal of
"kyclink run", what receivers of events have stored, and what FaceKi keeps.

This cannot be undone: the command asks for confirmation unless --yes is given. To
continue after an interruption, run it again.`,
		Example: "  kyclink forget A-1001 A-1002\n  kyclink forget --batch spring --dry-run\n  kyclink forget --batch spring --yes --json",
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.ids = args
			if err := o.check(cmd); err != nil {
				return err
			}
			return withShared(cmd, func(e *engine) error { return o.run(cmd, e) })
		},
	}
	cmd.Flags().StringVar(&o.batch, "batch", "", "erase everything that batch `NAME` accepted first")
	o.flag(cmd)
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "print how many requests would be erased, and change nothing")
	cmd.Flags().BoolVar(&o.asJSON, "json", false, "print what is erased, or would be, as JSON")
	return cmd
}

func (o *forgetOptions) check(cmd *cobra.Command) error {
	switch given := o.batch != ""; {
	case given && len(o.ids) > 0:
		return usageError(cmd, errors.New("--batch and application IDs exclude each other; give one of them"))
	case !given && len(o.ids) == 0:
		return usageError(cmd, errors.New("nothing is selected; give application IDs, or --batch NAME"))
	}
	slices.Sort(o.ids)
	o.ids = slices.Compact(o.ids)
	if o.dryRun {
		return nil
	}
	return o.consent.check(cmd)
}

func (o *forgetOptions) run(cmd *cobra.Command, e *engine) error {
	ctx := cmd.Context()
	erasure, err := e.operator().Erasure(ctx, o.ids, o.batch)
	if err != nil {
		return err
	}
	found, err := erasure.Count(ctx, func(id string) {
		fmt.Fprintf(cmd.ErrOrStderr(), "kyclink: %s: no request has this application ID; anything else that names it is erased\n", id)
	})
	switch {
	case err != nil:
		return stopped(ctx, err)
	case o.dryRun && o.asJSON:
		return printJSON(cmd.OutOrStdout(), map[string]int{"requests": found})
	case o.dryRun:
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s would be erased, and everything that names them\n", number(found, "request"))
		return err
	}
	if err := o.get(cmd, o.question(found)); err != nil {
		return err
	}
	// The audit trail must not keep the IDs.
	action, target := "links.erase", number(len(o.ids), "id")
	if o.batch != "" {
		action, target = "batches.erase", o.batch
	}
	if err := e.audit(ctx, action, target); err != nil {
		return err
	}
	err = erasure.Run(ctx)
	skipped, incompletely := errors.AsType[*operator.SkippedError](err)
	if err != nil && !incompletely {
		return incomplete(ctx, err, describeErased(erasure.Erased())+" erased")
	}
	if o.asJSON {
		err = printJSON(cmd.OutOrStdout(), erasure.Erased())
	} else {
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "erased: %s\n", describeErased(erasure.Erased()))
	}
	if incompletely {
		err = cmp.Or(err, error(skipped))
	}
	return err
}

// question returns what is asked before the erasure.
func (o *forgetOptions) question(found int) string {
	of := strings.Join(o.ids[:min(len(o.ids), 5)], ", ")
	if len(o.ids) > 5 {
		of += ", …"
	}
	if o.batch != "" {
		of = fmt.Sprintf("batch %q", o.batch)
	}
	return fmt.Sprintf("Erase %s of %s? This cannot be undone.", number(found, "request"), of)
}

// describeErased lists what was erased.
func describeErased(n operator.Erased) string {
	return fmt.Sprintf("%s with %s, %s, %s, %s, %s quarantined, %s from the rejects and the audit trail",
		number(n.Requests, "request"), number(n.Generations, "generation"), number(n.Rows, "row"), number(n.Events, "event"),
		number(n.Tasks, "task"), count(n.Quarantined), count(n.Entries))
}
