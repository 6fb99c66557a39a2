package api

import (
	"bufio"
	"cmp"
	"context"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/kyclink/kyclink/internal/bulk"
	"github.com/kyclink/kyclink/internal/input"
	"github.com/kyclink/kyclink/internal/transfer"
)

// exportBatch streams the rows of a batch with their results.
func (a *API) exportBatch(c *call) error {
	if err := c.noBody("format", "expired", "spreadsheet"); err != nil {
		return err
	}
	query := c.r.URL.Query()
	format, err := exportFormat(query.Get("format"), c.r.Header.Values("Accept"))
	if err != nil {
		return err
	}
	expired, err := flag("expired", query.Get("expired"))
	if err != nil {
		return err
	}
	spreadsheet, err := flag("spreadsheet", query.Get("spreadsheet"))
	if err != nil {
		return err
	}
	reading, cancel := context.WithTimeout(c.r.Context(), a.timeout)
	defer cancel()
	b, err := a.batch(reading, c)
	if err != nil {
		return err
	}
	now, err := a.Stores.Keys.Clock(reading, a.Redis).Time()
	if err != nil {
		return err
	}
	if c.r.Method != http.MethodHead {
		if err := a.exports.Begin(c.key); err != nil {
			return err
		}
		defer a.exports.End(c.key)
	}
	media := csvType + "; charset=utf-8; header=present"
	if format == input.NDJSON {
		media = ndjsonType
	}
	c.Header().Set("Content-Type", media)
	c.Header().Set("Vary", "Accept")
	if c.r.Method == http.MethodHead {
		return nil
	}
	ctx, stop := a.transfer(c)
	defer stop(nil)
	export := bulk.Export{Ledger: a.Stores.Rows(), Batch: b.Number, Format: format, Expired: expired, Now: now, Spreadsheet: spreadsheet}
	w := bufio.NewWriterSize(transfer.NewWriter(ctx, c, c.control), 64<<10)
	_, err = export.Write(ctx, w)
	return cmp.Or(err, w.Flush())
}

// exportFormat returns the format that the query names, or else the one that the Accept
// headers prefer. CSV wins a tie.
func exportFormat(name string, accept []string) (input.Format, error) {
	switch input.Format(name) {
	case input.CSV, input.NDJSON:
		return input.Format(name), nil
	case "":
	default:
		return "", malformed("format", "must be csv or ndjson")
	}
	csv, ndjson := preference(accept, csvType), preference(accept, ndjsonType)
	switch {
	case csv == 0 && ndjson == 0:
		return "", newProblem(http.StatusNotAcceptable, notAcceptable, "Unsupported format", "the formats are "+csvType+" and "+ndjsonType)
	case ndjson > csv:
		return input.NDJSON, nil
	}
	return input.CSV, nil
}

// preference returns the quality value of a media type, from 0 to 1. The most specific
// range of the Accept headers counts.
func preference(accept []string, media string) float64 {
	if len(accept) == 0 {
		return 1
	}
	kind, _, _ := strings.Cut(media, "/")
	best, found := 0.0, 0
	for one := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		given, params, err := mime.ParseMediaType(strings.TrimSpace(one))
		if err != nil {
			continue
		}
		specificity := 0
		switch given {
		case media:
			specificity = 3
		case kind + "/*":
			specificity = 2
		case "*/*":
			specificity = 1
		}
		if specificity <= found {
			continue
		}
		quality, err := strconv.ParseFloat(cmp.Or(params["q"], "1"), 64)
		if err != nil {
			quality = 1
		}
		best, found = quality, specificity
	}
	return best
}
