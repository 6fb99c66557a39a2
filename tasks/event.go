package tasks

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// The types of events. [EventHeld] is not an end of a request.
const (
	EventCreated   = "link.created"
	EventFailed    = "link.failed"
	EventCancelled = "link.cancelled"
	EventHeld      = "link.held"
)

// Event is one entry of the results stream. As JSON, it is the body of a callback; in
// the stream, its parts are the fields of the entry. Events have no version number:
// keys and fields may be added, but are never changed or removed, so readers must
// ignore unknown ones. A new meaning gets a new type.
type Event struct {
	// ID is a UUID. It stays the same however often the event is read, delivered or
	// published again.
	ID string `json:"-"`
	// Replay reports that an operator published the event again.
	Replay    bool      `json:"-"`
	Type      string    `json:"type"`
	Timestamp time.Time `json:"timestamp"`
	Data      EventData `json:"data"`
}

// EventData describes the outcome of one run of a request.
type EventData struct {
	ApplicationID      string          `json:"application_id"`
	Generation         int             `json:"generation"`
	Run                int             `json:"run"`
	Batch              string          `json:"batch,omitempty"`
	LinkID             string          `json:"link_id,omitempty"`
	URL                string          `json:"url,omitempty"`
	ExpiresAt          time.Time       `json:"expires_at,omitzero"`
	Reason             string          `json:"reason,omitempty"`
	Message            string          `json:"message,omitempty"`
	Attempts           int             `json:"attempts"`
	PossibleDuplicates int             `json:"possible_duplicates"`
	Metadata           json.RawMessage `json:"metadata,omitempty"`
}

// ParseEvent reads an event from the fields of a stream entry. It ignores unknown
// fields.
func ParseEvent(values map[string]any) (Event, error) {
	field := func(name string) string { s, _ := values[name].(string); return s }
	e := Event{ID: field("id"), Type: field("type"), Replay: field("replay") == "1"}
	if e.ID == "" || e.Type == "" {
		return Event{}, errors.New("stream entry is not an event: it has no id or no type")
	}
	var err error
	if e.Timestamp, err = time.Parse(time.RFC3339, field("timestamp")); err != nil {
		return Event{}, fmt.Errorf("event %s: timestamp: %w", e.ID, err)
	}
	if err := json.Unmarshal([]byte(field("data")), &e.Data); err != nil {
		return Event{}, fmt.Errorf("event %s: data: %w", e.ID, err)
	}
	return e, nil
}
