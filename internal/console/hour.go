package console

import (
	"bytes"
	"context"
	"sync"
	"time"

	"github.com/kyclink/kyclink/internal/activity"
)

// hourAge is how long the activity that was read is shown.
const hourAge = 10 * time.Second

// hour reads and renders the activity of the last hour for all browsers, at most every five
// seconds. It is safe for concurrent use.
type hour struct {
	read   func(context.Context) (activity.Hour, error)
	render func(chart) ([]byte, error)

	mu       sync.Mutex
	at       time.Time // when chart and err were read
	chart    chart
	err      error
	rendered *[]byte // for browsers that are live; replaced only by a different one
}

// latest returns the chart, which is at most ten seconds old.
func (h *hour) latest(ctx context.Context) (chart, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.at.IsZero() || time.Since(h.at) >= hourAge {
		// Others wait for this read, so that it does not end with the context of one browser.
		reading, cancel := context.WithTimeout(context.WithoutCancel(ctx), pageTimeout)
		defer cancel()
		h.err = h.refresh(reading)
		h.at = time.Now()
	}
	return h.chart, h.err
}

// update returns with what browsers replace the chart that was read last: the same pointer
// as before if it has not changed. It is nil if none was read.
func (h *hour) update() *[]byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.rendered
}

func (h *hour) refresh(ctx context.Context) error {
	read, err := h.read(ctx)
	if err != nil {
		return err
	}
	h.chart = newChart(read)
	text, err := h.render(h.chart)
	if err == nil && (h.rendered == nil || !bytes.Equal(text, *h.rendered)) {
		h.rendered = &text
	}
	return err
}

// renderChart renders the update with which browsers replace the chart and its table. It
// leaves alone whether the table is open.
func (c *Console) renderChart(d chart) ([]byte, error) {
	var text bytes.Buffer
	err := c.templates["now"].ExecuteTemplate(&text, "chart-update", d)
	return text.Bytes(), err
}
