package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"

	"github.com/kyclink/kyclink/internal/redistest"
)

const (
	listenWithin = 10 * time.Second
	listenPause  = 5 * time.Millisecond
)

// road is a TCP proxy between the workers and what they need, which can be cut,
// slowed down and made to swallow everything. Its address never changes.
type road struct {
	proxy   *toxiproxy.Proxy
	address string
}

func build(name, to string) (*road, error) {
	port, err := redistest.FreePort() // cut, it listens there again
	if err != nil {
		return nil, err
	}
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	r := &road{toxiproxy.NewProxy(server, name, address, to), address}
	if err := r.proxy.Start(); err != nil {
		return nil, fmt.Errorf("start the proxy before %s: %w", name, err)
	}
	return r, nil
}

func (r *road) addr() string { return r.address }

// cut breaks all connections off; new ones are accepted again. A process that is
// being started holds what this one listens to until it runs its own program, so
// that the address may still be taken for a moment.
func (r *road) cut(ctx context.Context) error {
	r.proxy.Stop()
	waiting, cancel := context.WithTimeout(ctx, listenWithin)
	defer cancel()
	for {
		err := r.proxy.Start()
		if !errors.Is(err, syscall.EADDRINUSE) {
			return err
		}
		select {
		case <-waiting.Done():
			return err
		case <-time.After(listenPause):
		}
	}
}

// slow lets answers come late. Requests do not: FaceKi would see calls in a
// crowd that the workers sent one by one, and the rate could not be checked.
func (r *road) slow(ms int) error {
	return r.add(`{"name":"slow","type":"latency","stream":"downstream","attributes":{"latency":%d,"jitter":%d}}`, ms, ms/2)
}

// swallow lets nothing through, in either direction, and closes nothing.
func (r *road) swallow() error {
	for _, stream := range []string{"upstream", "downstream"} {
		if err := r.add(`{"name":"hole-%[1]s","type":"timeout","stream":"%[1]s","attributes":{"timeout":0}}`, stream); err != nil {
			return err
		}
	}
	return nil
}

func (r *road) add(format string, args ...any) error {
	_, err := r.proxy.Toxics.AddToxicJson(strings.NewReader(fmt.Sprintf(format, args...)))
	return err
}

// clear makes the road what it was. What was swallowed is lost: connections of
// that time are cut.
func (r *road) clear(ctx context.Context) error {
	r.proxy.Toxics.ResetToxics(ctx)
	return r.cut(ctx)
}

func (r *road) close() { r.proxy.Stop() }
