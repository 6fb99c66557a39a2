package request

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
)

// Encode encodes the record in the format that [Parse] reads. Like the scripts, it caps
// counters at the width of their columns, and fails for any other number that is too large.
func (r Record) Encode() ([]byte, error) {
	raw, err := r.header()
	if err != nil {
		return nil, fmt.Errorf("record of %q: %w", r.ApplicationID, err)
	}
	rows := []any{storedContent(r.Content), r.Resolved, r.Outcome}
	for _, past := range r.Past {
		rows = append(rows, past)
	}
	used := len(rows)
	for used > 1 && empty(rows[used-1]) {
		used--
	}
	for i, row := range rows[:used] {
		if i > 0 {
			raw = append(raw, '\n')
		}
		if empty(row) {
			continue
		}
		line, err := json.Marshal(row)
		if err != nil {
			return nil, fmt.Errorf("record of %q: %w", r.ApplicationID, err)
		}
		raw = append(raw, line...)
	}
	return raw, nil
}

func empty(row any) bool {
	_, isContent := row.(storedContent)
	return !isContent && reflect.ValueOf(row).IsZero()
}

func (r Record) header() ([]byte, error) {
	state, ok := letter(stateLetters, r.State)
	if !ok {
		return nil, fmt.Errorf("unknown state %q", r.State)
	}
	lane, ok := letter(laneLetters, r.Lane)
	if !ok {
		return nil, fmt.Errorf("unknown lane %q", r.Lane)
	}
	flag, deadline := byte('-'), byte('-')
	if r.CancelAsked {
		flag = 'x'
	}
	switch {
	case r.Deadline:
		deadline = 'd'
	case r.NoDeadline:
		deadline = 'n'
	}
	raw := append(make([]byte, 0, HeaderLen+64), Version, state, lane, flag)
	for _, column := range []struct {
		name    string
		value   int64
		width   int
		counter bool
	}{
		{"generation", int64(r.Generation), 3, false},
		{"run", int64(r.Run), 3, false},
		{"turn", int64(r.Turn), 4, false},
		{"attempts", int64(r.Attempts), 5, true},
		{"charged", int64(r.Charged), 2, true},
		{"possible duplicates", int64(r.PossibleDuplicates), 4, true},
		{"batch", int64(r.Batch), 6, false},
		{"successes seen", int64(r.Seen), 10, true},
		{"accepted at", r.AcceptedAt.UnixMilli(), 13, false},
		{"changed at", r.ChangedAt.UnixMilli(), 13, false},
		{"holder", int64(r.Holder), 6, false},
	} {
		most := int64(math.Pow10(column.width)) - 1
		if column.counter {
			column.value = min(column.value, most)
		}
		if column.value < 0 || column.value > most {
			return nil, fmt.Errorf("%s is %d, must be from 0 to %d", column.name, column.value, most)
		}
		raw = fmt.Appendf(raw, "%0*d", column.width, column.value)
	}
	return append(raw, deadline), nil
}

func letter[V comparable](letters map[byte]V, value V) (byte, bool) {
	for l, v := range letters {
		if v == value {
			return l, true
		}
	}
	return 0, false
}
