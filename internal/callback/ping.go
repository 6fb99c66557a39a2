package callback

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"time"

	"github.com/google/uuid"

	"github.com/kyclink/kyclink/internal/delivery"
	"github.com/kyclink/kyclink/tasks"
)

// Ping sends an event of type ping, which belongs to no request, to a URL, as [Sender.Post]
// does, and returns it with the reply. It returns an error, and sends nothing, if no request
// may have this URL as its callback_url.
func (s *Sender) Ping(ctx context.Context, account, to string) (delivery.Delivery, delivery.Reply, error) {
	d := delivery.Delivery{EventID: uuid.NewString(), URL: to}
	if _, err := tasks.ParseText(func(key string) string {
		return map[string]string{"application_id": "ping", "callback_url": to}[key]
	}); err != nil {
		return d, delivery.Reply{}, err
	}
	u, err := url.Parse(to)
	if err != nil {
		return d, delivery.Reply{}, fmt.Errorf("callback_url: %w", err)
	}
	d.Host = u.Host
	if d.Body, err = json.Marshal(struct {
		Type      string            `json:"type"`
		Timestamp time.Time         `json:"timestamp"`
		Data      map[string]string `json:"data"`
	}{"ping", s.now().UTC(), map[string]string{"account": account}}); err != nil {
		return d, delivery.Reply{}, fmt.Errorf("encode a ping: %w", err)
	}
	return d, s.Post(ctx, d), nil
}
