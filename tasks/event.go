package tasks

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Types of events. Held is not an end.
const (
	EventCreated   = "link.created"
	EventFailed    = "link.failed"
	EventCancelled = "link.cancelled"
	EventHeld      = "link.held"
)

// Event is one entry of the results stream. As JSON it is the body of a
// callback; in the stream its parts are the entry's fields. It carries no
// version: keys and fields are added, never changed or taken away, and whoever
// reads leaves alone what it does not know. Another meaning gets another type.
type Event struct {
	// ID is a UUID. That of an end is fixed when its run starts, so it is the
	// same however often the event is read, delivered or published again.
	ID string `json:"-"`
	// Replay says that the event was published again on somebody's request.
	Replay    bool      `json:"-"`
	Type      string    `json:"type"`
	Timestamp time.Time `json:"timestamp"`
	Data      EventData `json:"data"`
}

// EventData says what happened to one run of a request.
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

// ParseEvent reads an event from the fields of a stream entry. Fields that it
// does not know are left alone, so that later versions can add some.
func ParseEvent(values map[string]any) (Event, error) {
	field := func(name string) string { s, _ := values[name].(string); return s }
	e := Event{ID: field("id"), Type: field("type"), Replay: field("replay") == "1"}
	if e.ID == "" || e.Type == "" {
		return Event{}, errors.New("stream entry is no event: it has no id or no type")
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
