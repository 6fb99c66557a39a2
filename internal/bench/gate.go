package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/kyclink/kyclink/internal/child"
)

// change is a change of the gate in the output of `kyclink account status --json`.
type change struct {
	At     time.Time `json:"at"`
	State  string    `json:"state"`
	Reason string    `json:"reason"`
}

// gate prints the changes of the gate, and returns the time from since until it closed, or
// false if it did not.
func (r *rig) gate(ctx context.Context, since time.Time) (time.Duration, bool, error) {
	out, err := child.Output(ctx, []string{"KYCLINK_REDIS_URL=" + r.server.URL}, r.suite.kyclink, "account", "status", "--json")
	if err != nil {
		return 0, false, err
	}
	history, err := changes([]byte(out))
	if err != nil {
		return 0, false, err
	}
	var closed time.Duration
	found := false
	for _, c := range history {
		after := c.At.Sub(since)
		r.suite.note("  gate %+.2f s: %s", after.Seconds(), strings.TrimSpace(c.State+" "+c.Reason))
		if c.State == "closed" && after > 0 && (!found || after < closed) {
			closed, found = after, true
		}
	}
	return closed, found, nil
}

func changes(status []byte) ([]change, error) {
	var account struct {
		History []change `json:"history"`
	}
	if err := json.Unmarshal(status, &account); err != nil {
		return nil, fmt.Errorf("kyclink account status: %w", err)
	}
	return account.History, nil
}
