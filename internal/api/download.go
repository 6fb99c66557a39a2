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
)

// exportBatch writes the rows of a batch with what came of them, while they are
// read.
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
	looking, cancel := context.WithTimeout(c.r.Context(), a.within)
	defer cancel()
	b, err := a.batch(looking, c)
	if err != nil {
		return err
	}
	now, err := a.Ledger.Keys().Clock(looking, a.Redis).Time()
	if err != nil {
		return err
	}
	if c.r.Method != http.MethodHead {
		if err := a.exported.begin(c.key); err != nil {
			return err
		}
		defer a.exported.end(c.key)
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
	export := bulk.Export{Ledger: a.Ledger, Batch: b.Number, Format: format, Expired: expired, Now: now, Spreadsheet: spreadsheet}
	w := bufio.NewWriterSize(&pacedWriter{c, ctx, c.control, pace{patience}}, 64<<10)
	_, err = export.Write(ctx, w)
	return cmp.Or(err, w.Flush())
}

// exportFormat is the one that is asked for by name, or else the one that is liked
// best; CSV where both are.
func exportFormat(name string, accept []string) (input.Format, error) {
	switch input.Format(name) {
	case input.CSV, input.NDJSON:
		return input.Format(name), nil
	case "":
	default:
		return "", unreadable("format", "must be csv or ndjson")
	}
	csv, ndjson := liked(accept, csvType), liked(accept, ndjsonType)
	switch {
	case csv == 0 && ndjson == 0:
		return "", newProblem(http.StatusNotAcceptable, notAcceptable, "There is no such format", "the rows can be had as "+csvType+" and as "+ndjsonType)
	case ndjson > csv:
		return input.NDJSON, nil
	}
	return input.CSV, nil
}

// liked is how much a type is wanted, from 0 to 1: what is said of it most
// precisely counts.
func liked(accept []string, media string) float64 {
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
		precise := 0
		switch given {
		case media:
			precise = 3
		case kind + "/*":
			precise = 2
		case "*/*":
			precise = 1
		}
		if precise <= found {
			continue
		}
		quality, err := strconv.ParseFloat(cmp.Or(params["q"], "1"), 64)
		if err != nil {
			quality = 1
		}
		best, found = quality, precise
	}
	return best
}
