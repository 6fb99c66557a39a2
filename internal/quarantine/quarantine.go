// Package quarantine keeps asynq tasks and records that cannot be decoded, for an operator.
package quarantine

import "time"

// Entry is an asynq task or a record that this version cannot decode, and that belongs to
// no request that could be ended instead.
type Entry struct {
	At    time.Time `json:"at"`
	Queue string    `json:"queue,omitempty"` // asynq queue of the task
	Task  string    `json:"task,omitempty"`  // id of the task
	Type  string    `json:"type,omitempty"`
	// Why is the error, for people.
	Why string `json:"why"`
	// Raw is the task's payload, the whole message if asynq itself cannot decode it, or
	// the record; truncated to [MaxBytes] bytes.
	Raw []byte `json:"raw"`
}

const (
	// MaxEntries is the number of entries that are kept, the latest ones. Each entry is
	// logged when it is added, and the field "poison" of the account's state counts all
	// that ever were.
	MaxEntries = 10_000
	// MaxBytes is the number of bytes that are kept of each entry.
	MaxBytes = 64 << 10
)
