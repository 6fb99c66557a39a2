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
	listenTimeout = 10 * time.Second
	listenPause   = 5 * time.Millisecond
)

// proxy is a TCP proxy that can disconnect clients, delay answers and drop all data. Its
// address never changes.
type proxy struct {
	inner   *toxiproxy.Proxy
	address string
}

func newProxy(name, to string) (*proxy, error) {
	port, err := redistest.FreePort() // a free port that it can listen on again
	if err != nil {
		return nil, err
	}
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	r := &proxy{toxiproxy.NewProxy(server, name, address, to), address}
	if err := r.inner.Start(); err != nil {
		return nil, fmt.Errorf("start the proxy for %s: %w", name, err)
	}
	return r, nil
}

func (r *proxy) addr() string { return r.address }

// disconnect closes all connections, and accepts new ones afterwards. The address may
// remain in use for a moment: a child process inherits the listener until it executes its
// program.
func (r *proxy) disconnect(ctx context.Context) error {
	r.inner.Stop()
	waiting, cancel := context.WithTimeout(ctx, listenTimeout)
	defer cancel()
	for {
		err := r.inner.Start()
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

// addLatency delays answers. Requests are not delayed: calls would arrive at FaceKi in
// bursts, and the rate could not be checked.
func (r *proxy) addLatency(ms int) error {
	return r.add(`{"name":"slow","type":"latency","stream":"downstream","attributes":{"latency":%d,"jitter":%d}}`, ms, ms/2)
}

// blackhole drops all data in both directions without closing connections.
func (r *proxy) blackhole() error {
	for _, stream := range []string{"upstream", "downstream"} {
		if err := r.add(`{"name":"hole-%[1]s","type":"timeout","stream":"%[1]s","attributes":{"timeout":0}}`, stream); err != nil {
			return err
		}
	}
	return nil
}

func (r *proxy) add(format string, args ...any) error {
	_, err := r.inner.Toxics.AddToxicJson(strings.NewReader(fmt.Sprintf(format, args...)))
	return err
}

// reset ends all faults. It closes all connections, because dropped data cannot be restored.
func (r *proxy) reset(ctx context.Context) error {
	r.inner.Toxics.ResetToxics(ctx)
	return r.disconnect(ctx)
}

func (r *proxy) close() { r.inner.Stop() }
