package request

import "fmt"

// ContentError says that a record's header can be decoded and its content cannot.
type ContentError struct {
	ApplicationID string
	Line          int // from 1
	Err           error
}

func (e *ContentError) Error() string {
	return fmt.Sprintf("record of %q: line %d: %v", e.ApplicationID, e.Line, e.Err)
}

func (e *ContentError) Unwrap() error { return e.Err }
