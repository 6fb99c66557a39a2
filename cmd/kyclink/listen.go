package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"

	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/config"
	"github.com/kyclink/kyclink/internal/connection"
	"github.com/kyclink/kyclink/internal/logging"
	"github.com/kyclink/kyclink/internal/monitor"
)

// listenAt listens on the address of a setting, which is a variable or a flag.
func listenAt(setting, address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s: %s is in use; set %s to another address, or stop the process that uses it", setting, address, setting)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w; set it to an address of this host", setting, err)
	}
	return l, nil
}

// listenOps listens on the address of health and metrics. If the default address is in
// use, it returns nil without an error: several workers may share a host.
func listenOps(cfg config.Ops, log *zap.Logger) (net.Listener, error) {
	l, err := listenAt("KYCLINK_OPS_LISTEN", cfg.Listen)
	if err != nil && !cfg.Given {
		log.Warn("health and metrics are not served", zap.Error(err))
		return nil, nil //nolint:nilnil // a process works without it
	}
	return l, err
}

// serveOps serves health and metrics until stop is called. If l is nil, it does nothing.
func (e *engine) serveOps(ctx context.Context, l net.Listener, o *monitor.Server, ready func() error) (stop func()) {
	if l == nil {
		return func() {}
	}
	l = connection.Limit(l, connection.Ops, func() {})
	e.log.Info("serving health and metrics", zap.String("ops_address", l.Addr().String()))
	serving, end := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	running.Go(func() { o.Serve(serving, l, ready) })
	return func() {
		end()
		running.Wait()
	}
}

// newOps returns the server of health and metrics of this process.
func (e *engine) newOps(account monitor.Account) *monitor.Server {
	return monitor.New(e.opsConfig(account, logging.Limited(e.log)))
}

func (e *engine) opsConfig(account monitor.Account, limited *zap.Logger) monitor.Config {
	return monitor.Config{Name: e.cfg.Account, Account: account, Diagnose: e.operator().Status, Version: version, Log: e.log, Limited: limited}
}
