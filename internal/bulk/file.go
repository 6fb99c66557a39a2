package bulk

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"io"

	"github.com/kyclink/kyclink/internal/input"
	"github.com/kyclink/kyclink/internal/output"
)

// WriteFile writes the rows to a file, in the format of its suffix unless Format is set.
// The file appears when it is complete. If path is empty, the rows are written to stdout,
// as CSV unless Format is set.
func (e *Export) WriteFile(ctx context.Context, path string, stdout io.Writer) (output.Counts, error) {
	export := *e
	if path == "" {
		export.Format = cmp.Or(e.Format, input.CSV)
		w := bufio.NewWriterSize(stdout, 1<<16)
		counts, err := export.Write(ctx, w)
		return counts, cmp.Or(err, w.Flush())
	}
	file, err := output.CreateFile(path, e.Format)
	if err != nil {
		return nil, err
	}
	export.Format = file.Format
	counts, err := export.Write(ctx, file)
	if err != nil {
		return counts, errors.Join(err, file.Discard())
	}
	return counts, file.Commit()
}

// WriteFile writes the rows to a file, in the format of its suffix. The file appears when
// it is complete. If path is empty, the rows are written to stdout, in the input's format.
func (m *Merge) WriteFile(ctx context.Context, path string, stdout io.Writer) (Merged, error) {
	if path == "" {
		w, err := output.NewStream(stdout, m.Input, m.Spreadsheet)
		if err != nil {
			return Merged{}, err
		}
		merged, err := m.Write(ctx, w.Write)
		return merged, cmp.Or(err, w.Commit())
	}
	target, err := output.Resolve(path)
	if err != nil {
		return Merged{}, err
	}
	w, err := output.Create(target, m.Input, m.Spreadsheet)
	if err != nil {
		return Merged{}, err
	}
	merged, err := m.Write(ctx, w.Write)
	if err != nil {
		return merged, errors.Join(err, w.Discard())
	}
	return merged, w.Commit()
}
