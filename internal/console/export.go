package console

import (
	"bufio"
	"cmp"
	"context"
	"io"
	"mime"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/bulk"
	"github.com/kyclink/kyclink/internal/input"
	"github.com/kyclink/kyclink/internal/transfer"
)

// mostSheetRows is how many rows a sheet has below its header.
const mostSheetRows = 1<<20 - 1

// exportBatch sends the rows of a batch with their links, which the audit trail records.
func (c *Console) exportBatch(ctx context.Context, v *visit) error {
	control := http.NewResponseController(v.w)
	_ = control.SetReadDeadline(deadline(c.timeout)) // test recorders have no deadline
	v.r.Body = http.MaxBytesReader(v.w, v.r.Body, maxForm)
	if err := v.r.ParseForm(); err != nil {
		return &pageError{http.StatusBadRequest, "Request not understood", "The form is damaged or too large."}
	}
	_ = control.SetReadDeadline(time.Time{})
	reading, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	b, err := c.batchOf(reading, v.r.PostFormValue("name"))
	if err != nil {
		return err
	}
	export := bulk.Export{
		Ledger: c.Stores.Rows(), Batch: b.Number, Format: input.Format(v.r.PostFormValue("format")),
		Expired: v.r.PostFormValue("expired") != "", Spreadsheet: v.r.PostFormValue("spreadsheet") != "",
	}
	switch {
	case export.Format == input.XLSX && b.Rows > mostSheetRows:
		return &pageError{http.StatusUnprocessableEntity, "Too many rows for a sheet", "The batch has more rows than a sheet of a workbook. Export it as CSV."}
	case export.Format != input.CSV && export.Format != input.XLSX && export.Format != input.NDJSON:
		return &pageError{http.StatusUnprocessableEntity, "Unknown format", "The formats are csv, xlsx and ndjson."}
	}
	if export.Now, err = c.operator.Now(reading); err != nil {
		return err
	}
	if err := c.record(reading, v, "batches.export", b.Batch); err != nil {
		return err
	}
	if export.Format == input.XLSX {
		return c.exportWorkbook(ctx, v, export, b)
	}
	c.attachment(v, fileName(b, export.Format), export.Format)
	w := bufio.NewWriterSize(transfer.NewWriter(ctx, v.w, control), 64<<10)
	_, err = export.Write(ctx, w)
	if err = cmp.Or(err, w.Flush()); err != nil {
		c.interrupt(v, err)
	}
	return nil
}

// exportWorkbook writes the workbook to a temporary file first, because its first bytes are
// known only at its end.
func (c *Console) exportWorkbook(ctx context.Context, v *visit, export bulk.Export, b batch.Batch) error {
	dir, err := temporaryDir()
	if err != nil {
		return c.noTemporaryFile(err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // a later request removes what is left
	path := filepath.Join(dir, "export.xlsx")
	if _, err := export.WriteFile(ctx, path, nil); err != nil {
		return c.fileError(err)
	}
	return c.sendFile(ctx, v, path, fileName(b, input.XLSX), input.XLSX)
}

// fileName is the name of an exported batch. Browsers replace what a system does not permit.
func fileName(b batch.Batch, format input.Format) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(`/\:*?"<>|`, r) {
			return '-'
		}
		return r
	}, b.Batch) + "-links." + string(format)
}

// attachment begins the response with a file.
func (c *Console) attachment(v *visit, name string, format input.Format) {
	h := v.w.Header()
	h.Set("Content-Type", map[input.Format]string{
		input.CSV:    "text/csv; charset=utf-8; header=present",
		input.NDJSON: "application/x-ndjson",
		input.XLSX:   "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
	}[format])
	h.Set("Content-Disposition", cmp.Or(mime.FormatMediaType("attachment", map[string]string{"filename": name}), "attachment"))
}

// sendFile sends a file as a download.
func (c *Console) sendFile(ctx context.Context, v *visit, path, name string, format input.Format) error {
	file, err := os.Open(path)
	if err != nil {
		return c.noTemporaryFile(err)
	}
	defer func() { _ = file.Close() }() // it was read only
	info, err := file.Stat()
	if err != nil {
		return c.noTemporaryFile(err)
	}
	c.attachment(v, name, format)
	v.w.Header().Set("Content-Length", strconv.FormatInt(info.Size(), 10))
	if _, err := io.Copy(transfer.NewWriter(ctx, v.w, http.NewResponseController(v.w)), file); err != nil {
		c.interrupt(v, err)
	}
	return nil
}

// interrupt ends a response that has begun, so that the browser does not take it for complete.
func (c *Console) interrupt(v *visit, err error) {
	if v.r.Context().Err() == nil { // the browser is still there
		c.Log.Warn("console download interrupted", zap.String("route", v.r.Pattern), zap.String("request_id", v.requestID()), zap.Error(err))
	}
	panic(http.ErrAbortHandler)
}
