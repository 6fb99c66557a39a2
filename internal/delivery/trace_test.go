package delivery_test

import (
	"encoding/json"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/kyclink/kyclink/internal/delivery"
	"github.com/kyclink/kyclink/tasks"
)

// The trace of a delivery is that of its request, whatever its metadata looks like.
func TestDelivery_KeepsTheTraceOfItsRequest(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	for _, tt := range []struct {
		id, metadata string
		traced       bool
	}{
		{"A-1", `{"a":1}`, true},
		{"A-2", `{"a":1}`, false},
		{"A-3", `{"t":"not-a-trace","r":1}`, false},
		{"A-4", `{"b":{"t":"not-a-trace"}}`, true},
	} {
		cfg := tasks.Config{Account: h.Keys.Account, Callbacks: tasks.Callbacks{Hosts: []string{"*"}}}
		if tt.traced {
			cfg.TracerProvider = sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.AlwaysSample()))
		}
		_, err := tasks.NewClient(h.Redis, cfg).Enqueue(t.Context(), tasks.Request{
			ApplicationID: tt.id, Lane: tasks.Bulk, CallbackURL: destination, Metadata: json.RawMessage(tt.metadata),
		})
		h.Must(err)
		want := h.Record(tt.id).Content.Trace
		if (want != "") != tt.traced {
			t.Errorf("%s: the record has the trace %q", tt.id, want)
		}
		h.Do(tt.id, "cancel")
		for _, values := range h.Events(false) {
			event, err := tasks.ParseEvent(values)
			h.Must(err)
			if event.Data.ApplicationID == tt.id {
				c := courier{h, event}
				c.open(false)
				if got := c.begun().Trace; got != want {
					t.Errorf("%s: the delivery has the trace %q, want %q", tt.id, got, want)
				}
			}
		}
	}
}

// A delivery that has reached its receiver needs no trace any more.
func TestDelivery_ForgetsItsTraceWhenDelivered(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	c := h.ended("A-1")
	c.open(false)
	h.Must(h.Redis.HSet(t.Context(), h.Keys.Delivery(c.event.ID), "trace", "abc").Err())
	d := c.begun()
	_, err := h.Stores.Deliveries.End(t.Context(), d, delivery.Reply{Code: 200}, 0)
	h.Must(err)
	if n := h.Redis.HExists(t.Context(), h.Keys.Delivery(c.event.ID), "trace").Val(); n {
		t.Error("the delivery still has its trace")
	}
}
