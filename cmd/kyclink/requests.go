package main

import (
	"context"
	"fmt"
	"iter"

	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/operator"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/terminal"
	"github.com/kyclink/kyclink/tasks"
)

// failedList is the list of failed requests.
func failedList() *deadLetters[request.Record] {
	return requestList(request.Failed, "failed", fault.Ends())
}

// heldList is the list of held requests.
func heldList() *deadLetters[request.Record] {
	return requestList(request.Held, "were held", fault.Holds())
}

func requestList(state request.State, came string, reasons []fault.Reason) *deadLetters[request.Record] {
	l := &deadLetters[request.Record]{
		are: fmt.Sprintf("request is %s", state), noun: fmt.Sprintf("%s request", state), ids: "application IDs", came: came, reasons: reasons,
		headings: []string{"APPLICATION ID", "SINCE", "BATCH", "ATTEMPTS", "DUPLICATES", "REASON"},
		next:     fmt.Sprintf("To see one: kyclink show ID. To retry some: kyclink %s retry --help", state),
	}
	l.read = func(ctx context.Context, op *operator.Operator, m *missing) (iter.Seq2[[]request.Record, error], error) {
		return op.Requests(ctx, state, l.Selection, operator.Omitted{Unreadable: m.damaged, Other: func(id string, now request.State) {
			if now == "" {
				m.unknown++
				fmt.Fprintf(m.w, "kyclink: %s: no request has this application ID\n", id)
				return
			}
			m.skipped++
			fmt.Fprintf(m.w, "kyclink: skipped %s: it is %s, not %s\n", id, now, state)
		}})
	}
	l.show = func(ctx context.Context, op *operator.Operator, r request.Record) (row, error) {
		link, err := op.Link(ctx, r)
		return linkRow{link}, err
	}
	return l
}

// linkRow is a request in a list.
type linkRow struct{ tasks.Link }

func (l linkRow) cells(p *terminal.Page) []terminal.Cell {
	attempts := terminal.Cell{Text: count(l.Attempts), Number: true}
	duplicates := terminal.Cell{Number: true}
	if l.PossibleDuplicates > 0 { // the column is left out if it is empty
		duplicates.Text = count(l.PossibleDuplicates)
	}
	if !p.Terminal() { // the columns have no headings
		attempts.Text = number(l.Attempts, "attempt") + ", " + number(l.PossibleDuplicates, "possible duplicate")
		return []terminal.Cell{{Text: l.ApplicationID}, {Text: moment(l.EndedAt)}, {Text: l.Batch}, attempts, {Text: reasonText(l.Reason, l.Message)}}
	}
	return []terminal.Cell{
		{Text: l.ApplicationID, Whole: true}, {Text: ago(l.EndedAt), Tone: terminal.Dim}, {Text: l.Batch, Whole: true}, attempts, duplicates,
		{Text: reasonText(l.Reason, l.Message)},
	}
}
