package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kyclink/kyclink/internal/deadletter"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/operator"
	"github.com/kyclink/kyclink/internal/terminal"
)

// deadLetters is a list of entries that need a decision by a person: failed requests,
// held requests, or given-up deliveries. It has the commands of the list.
type deadLetters[T any] struct {
	operator.Selection
	all     bool
	are     string // as in "no request is failed with reason REASON"
	noun    string // such as "failed request"
	ids     string // such as "application IDs"
	came    string // as in "only those that failed before TIME"
	hosts   bool   // entries can be selected by host
	reasons []fault.Reason
	// headings are those of the table, and next is the command that helps next.
	headings []string
	next     string

	read func(ctx context.Context, op *operator.Operator, m *missing) (iter.Seq2[[]T, error], error)
	show func(ctx context.Context, op *operator.Operator, entry T) (row, error)
}

// row is an entry as it is printed: as JSON, or as a row of a table.
type row interface {
	cells(p *terminal.Page) []terminal.Cell
}

// missing reports given IDs that are not on the list, and entries that cannot be decoded.
// If there is an unknown ID or such an entry, the command fails at its end.
type missing struct {
	w                            io.Writer
	unknown, skipped, unreadable int
}

func (m *missing) damaged(u deadletter.Unreadable) {
	m.unreadable++
	fmt.Fprintf(m.w, "kyclink: skipped %s, which this version cannot decode: %v\n", u.ID, u.Why)
}

func (m *missing) err() error {
	if m.unknown+m.unreadable == 0 {
		return nil
	}
	return &codeError{code: exitError}
}

// flags adds the flags that select entries.
func (l *deadLetters[T]) flags(cmd *cobra.Command) {
	if l.hosts {
		cmd.Flags().StringVar(&l.Host, "host", "", "only those to `HOST`, such as shop.example or shop.example:8443")
	}
	cmd.Flags().StringVar(&l.Reason, "reason", "", "only those with `REASON`")
	cmd.Flags().StringVar(&l.Batch, "batch", "", "only those of batch `NAME`")
	when := "only those that " + l.came + " %s `TIME`, such as 2026-12-01T00:00:00Z, or an age such as 2h"
	cmd.Flags().StringVar(&l.Since, "since", "", fmt.Sprintf(when, "at or after"))
	cmd.Flags().StringVar(&l.Before, "before", "", fmt.Sprintf(when, "before"))
}

// check refuses wrong flags before anything is read.
func (l *deadLetters[T]) check(cmd *cobra.Command) error {
	if l.Reason != "" && !slices.Contains(l.reasons, fault.Reason(l.Reason)) {
		return usageError(cmd, fmt.Errorf("--reason: no %s with reason %q; use one of %s", l.are, l.Reason, joined(l.reasons)))
	}
	now, times := time.Now(), map[string]time.Time{}
	for flag, text := range map[string]string{"since": l.Since, "before": l.Before} {
		at, err := operator.ParseTime(text, now)
		if text != "" && err != nil {
			return usageError(cmd, fmt.Errorf("--%s: %w", flag, err))
		}
		times[flag] = at
	}
	if since, before := times["since"], times["before"]; !since.IsZero() && !before.IsZero() && !since.Before(before) {
		return usageError(cmd, errors.New("--since is not earlier than --before, so that nothing can match; swap them"))
	}
	if cmd.Flags().Lookup("all") == nil { // the command only lists, or has a batch as its argument
		return nil
	}
	switch given := l.String() != "--all" || len(l.IDs) > 0; {
	case l.all && len(l.IDs) > 0:
		return usageError(cmd, fmt.Errorf("--all and %s exclude each other; give one of them", l.ids))
	case l.all && given: // it is not known which of them was meant
		return usageError(cmd, fmt.Errorf("--all and %s exclude each other: --all is every %s; omit one of them", strings.Fields(l.String())[0], l.noun))
	case !given && !l.all:
		host := ""
		if l.hosts {
			host = "--host, "
		}
		return usageError(cmd, fmt.Errorf("no %s is selected; give %s, %s--reason, --batch, --since, --before, or --all", l.noun, l.ids, host))
	}
	return nil
}

// listCommand returns the command that prints the list.
func (l *deadLetters[T]) listCommand(short, long, example string) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list [ID]...", Short: short, Long: long, Example: example,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			l.IDs = args
			if err := l.check(cmd); err != nil {
				return err
			}
			return withOperator(cmd, func(op *operator.Operator) error {
				n, err := l.print(cmd, op, asJSON)
				switch {
				case asJSON || err != nil:
				case n > 0:
					hint(l.next)
				default:
					hint("No " + l.noun + ".")
				}
				return err
			})
		},
	}
	l.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print each as a line of JSON")
	return cmd
}

// print prints the selected entries as it reads them, and returns how many there are.
func (l *deadLetters[T]) print(cmd *cobra.Command, op *operator.Operator, asJSON bool) (n int, err error) {
	ctx, m := cmd.Context(), &missing{w: cmd.ErrOrStderr()}
	pages, err := l.read(ctx, op, m)
	if err != nil {
		return 0, stopped(ctx, err)
	}
	p := newPage(cmd)
	t := p.Table(l.headings...)
	for page, err := range pages {
		for _, entry := range page {
			var shown row
			if shown, err = l.show(ctx, op, entry); err != nil {
				break
			}
			if asJSON {
				err = printJSON(cmd.OutOrStdout(), shown)
			} else {
				t.Row(shown.cells(p)...)
			}
			if err != nil {
				break
			}
		}
		if err = errors.Join(err, t.Flush()); err != nil {
			return n, stopped(ctx, err)
		}
		n += len(page)
	}
	return n, m.err()
}

// joined lists reasons, separated by commas.
func joined(reasons []fault.Reason) string {
	names := make([]string, len(reasons))
	for i, r := range reasons {
		names[i] = string(r)
	}
	return strings.Join(names, ", ")
}
