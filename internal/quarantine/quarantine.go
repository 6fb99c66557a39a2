// Package quarantine describes the asynq tasks and records that cannot be decoded,
// and that are kept for a person.
package quarantine

import "time"

// Entry is an asynq task, or a record with a damaged header, that this version cannot decode
// and that belongs to no request that could be ended.
type Entry struct {
	At    time.Time `json:"at"`
	Queue string    `json:"queue,omitempty"` // the asynq queue that a task came from
	Task  string    `json:"task,omitempty"`  // its id
	Type  string    `json:"type,omitempty"`
	// Why says what is wrong with it, for people.
	Why string `json:"why"`
	// Raw is the task's payload, the whole message where asynq itself cannot read
	// it, or the record; cut after [MaxBytes] bytes.
	Raw []byte `json:"raw"`
}

const (
	// MaxEntries is how many entries are kept, the latest. How many there ever were is the
	// field "poison" of the account's state, so what was pushed out can be counted; each
	// had its line in the log.
	MaxEntries = 10_000
	// MaxBytes is how many bytes of each entry are kept.
	MaxBytes = 64 << 10
)
