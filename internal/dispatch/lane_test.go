package dispatch

import (
	"testing"

	"github.com/kyclink/kyclink/internal/delivery"
)

func TestResultOf_FollowsTheReplyAndTheStatus(t *testing.T) {
	refused := delivery.Reply{Code: 500, Reason: "receiver_error"}
	for _, tt := range []struct {
		reply  delivery.Reply
		status delivery.Status
		want   string
	}{
		{delivery.Reply{Code: 200}, delivery.Delivered, "delivered"},
		{delivery.Reply{Code: 200}, "", "delivered"}, // it could not be recorded
		{refused, delivery.Pending, "retried"},
		{refused, "", "retried"},
		{refused, delivery.GivenUp, "given_up"},
	} {
		if got := resultOf(tt.reply, tt.status); got != tt.want {
			t.Errorf("%+v, status %q: got %s, want %s", tt.reply, tt.status, got, tt.want)
		}
	}
}
