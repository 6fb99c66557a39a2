package tasks

import (
	"errors"
	"time"

	"github.com/kyclink/kyclink/internal/request"
)

// decision is what happens to one row, given the latest generation of its ID.
type decision struct {
	op         string // of accept.lua
	generation int    // that op refers to
	row        int    // of the record's batch; the next generation keeps it
	joined     bool
	retry      bool            // see accepted
	err        error           // for the caller
	old        *request.Record // the answer, if the request names an earlier generation
}

// backlogFull reports whether the lane has no capacity for the request.
func (d decision) backlogFull() bool {
	_, full := errors.AsType[*BacklogError](d.err)
	return full
}

// result returns the record that the script leaves, or nil if only the script knows it.
func (d decision) result(into target, row Row, known *request.Record) *request.Record {
	switch {
	case d.err != nil:
		return nil
	case d.op == "new":
		r := firstRecord(into, row, time.Time{})
		return &r
	case d.op == "keep":
		return known
	}
	return nil
}

// decide decides about a request whose latest generation is known, or nil if the ID is
// unknown. notAfter applies to a request that has none.
func decide(req Request, latest *request.Record, notAfter, now time.Time) decision {
	if !req.NotAfter.IsZero() {
		notAfter = req.NotAfter
	}
	past := !notAfter.IsZero() && !notAfter.After(now)
	if latest == nil {
		switch {
		case req.Generation > 1:
			return decision{op: "none", err: &GapError{req.ApplicationID, req.Generation, 0, ""}}
		case past:
			return decision{op: "none", err: pastError()}
		}
		return decision{op: "new", generation: 1}
	}
	want, d := req.Generation, decision{op: "keep", generation: latest.Generation}
	if want == 0 {
		want = latest.Generation
	}
	switch {
	case want < latest.Generation:
	case want == latest.Generation:
		d.err = conflict(req, latest)
		if d.err == nil && req.Lane == Interactive && latest.Lane == request.Bulk {
			d.op = "promote" // if it still waits when the script runs
		}
	case want > latest.Generation+1 || !latest.State.Ended():
		d.err = &GapError{req.ApplicationID, want, latest.Generation, Status(latest.State)}
	case past:
		d.err = pastError()
	default:
		d.op, d.generation = "next", want
	}
	return d
}

func pastError() error {
	return invalid([]Problem{{"not_after", "is in the past"}})
}

func conflict(req Request, known *request.Record) error {
	if keys := differences(known.Content, req.content()); len(keys) > 0 {
		return &ConflictError{req.ApplicationID, keys}
	}
	return nil
}
