package main

import (
	"cmp"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/kyclink/kyclink/internal/delivery"
)

func newCallbacksList() *cobra.Command {
	var asJSON bool
	p := &callbackPick{retried: true}
	cmd := &cobra.Command{
		Use:   "list [ID]...",
		Short: "list callbacks that were given up, the oldest first, then those that are tried again",
		Long: `list shows callbacks that were given up, but for those that were dropped: they are
found by their ids. Then come those that were not delivered and are tried again, the
next one first: with the receiver's last answer, and when that is.`,
		Example: "  kyclink callbacks list\n  kyclink callbacks list --host shop.example --reason timeout\n  kyclink callbacks list --since 24h --json",
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			p.ids = args
			if err := p.check(cmd); err != nil {
				return err
			}
			return withShared(cmd, func(e *engine) error {
				_, err := p.list(cmd, e, asJSON)
				return err
			})
		},
	}
	p.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print each as a line of JSON")
	return cmd
}

// list prints what is meant as it reads it, and gives how many there are.
func (p *callbackPick) list(cmd *cobra.Command, e *engine, asJSON bool) (n int, err error) {
	d, ctx := e.desk(), cmd.Context()
	none := &without{w: cmd.ErrOrStderr(), retried: p.retried}
	pages, err := p.chosen(ctx, e, d, none.see)
	if err != nil {
		return 0, err
	}
	n, err = eachPage(ctx, pages, func(page []delivery.Delivery) error {
		stories, err := d.tellDeliveries(ctx, page)
		if err != nil {
			return err
		}
		return printDeliveries(cmd.OutOrStdout(), stories, asJSON)
	})
	return n, cmp.Or(err, none.err())
}

func printDeliveries(w io.Writer, stories []deliveryStory, asJSON bool) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, s := range stories {
		if asJSON {
			if err := printJSON(w, s); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", s.EventID, s.ApplicationID, s.Type, s.Host, s.Batch, s)
	}
	return t.Flush()
}

// without reports the ids that have no matching callback.
type without struct {
	w       io.Writer
	retried bool
	n       int
}

func (n *without) see(id string) {
	n.n++
	what := "was given up"
	if n.retried {
		what += ", nor is any tried again"
	}
	fmt.Fprintf(n.w, "kyclink: %s: no callback of it %s; its deliveries: kyclink callbacks show %s\n", id, what, id)
}

func (n *without) err() error {
	if n.n == 0 {
		return nil
	}
	return &codeError{code: exitError}
}
