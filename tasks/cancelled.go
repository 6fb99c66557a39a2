package tasks

import "fmt"

// CancelledError says that a batch is cancelled, which nothing takes back.
type CancelledError struct{ Batch string }

func (e *CancelledError) Error() string {
	return fmt.Sprintf("batch %q is cancelled: it can neither go on nor take rows any more; import them under another name", e.Batch)
}
