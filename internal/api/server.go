package api

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"
)

const (
	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute
	// hardMaxHeaders is the limit of net/http. Between maxHeaders and it, the API itself
	// refuses headers.
	hardMaxHeaders = 64 << 10
	// drainTimeout limits uploads and exports that are in progress at a stop.
	drainTimeout = 20 * time.Second
)

// Serve handles requests from l until ctx ends. It then answers requests that wait for a
// link, and gives others 20 s to finish. certificate is nil without TLS.
func (a *API) Serve(ctx context.Context, l net.Listener, certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)) error {
	base, abort := context.WithCancel(context.WithoutCancel(ctx))
	defer abort()
	server := &http.Server{
		Handler: a, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: hardMaxHeaders,
		ErrorLog:    zap.NewStdLog(a.Log.WithOptions(zap.IncreaseLevel(zap.ErrorLevel))), // no errors that clients cause
		BaseContext: func(net.Listener) context.Context { return base },
		// Otherwise, net/http would answer OPTIONS * without a key.
		DisableGeneralOptionsHandler: true,
	}
	var running sync.WaitGroup
	running.Go(func() { a.Run(base) })
	defer running.Wait()
	defer abort()
	served := make(chan error, 1)
	go func() {
		if certificate == nil {
			served <- server.Serve(plainListener{l})
			return
		}
		server.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: certificate}
		served <- server.ServeTLS(l, "", "")
	}()
	select {
	case err := <-served:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	a.Log.Info("draining requests in progress", zap.Duration("timeout", drainTimeout))
	a.Drain()
	draining, cancel := context.WithTimeout(base, drainTimeout)
	defer cancel()
	if err := server.Shutdown(draining); err != nil {
		a.Log.Warn("drain timeout: aborting requests in progress", zap.Error(err))
		abort()
		_ = server.Close() // it fails only for closed connections
	}
	a.Log.Info("stopped")
	return nil
}

// plainListener returns connections on which the error responses of net/http itself, to
// input that is not valid HTTP, are problem documents.
type plainListener struct{ net.Listener }

func (l plainListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return plainConn{conn}, nil
}

type plainConn struct{ net.Conn }

// CloseWrite lets net/http close the connection so that its last response arrives.
func (c plainConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// Write replaces an error response of net/http itself, which writes it in one call.
func (c plainConn) Write(p []byte) (int, error) {
	status := ownResponse(p)
	if status == 0 {
		return c.Conn.Write(p)
	}
	if _, err := c.Conn.Write(rawResponse(status)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// ownResponse returns the status of a response that net/http creates itself, or 0. Such a
// response starts differently from all responses of the API.
func ownResponse(answer []byte) int {
	rest, ok := bytes.CutPrefix(answer, []byte("HTTP/1.1 "))
	line, rest, _ := bytes.Cut(rest, []byte("\r\n"))
	if !ok || len(line) < 3 {
		return 0
	}
	status, err := strconv.Atoi(string(line[:3]))
	plain := bytes.HasPrefix(rest, []byte("Content-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"))
	if err != nil || status < http.StatusBadRequest || !plain && status != http.StatusExpectationFailed {
		return 0
	}
	return status
}

// rawResponse is the complete response to input that is not a request.
func rawResponse(status int) []byte {
	p := malformed("", "this is not a valid HTTP request")
	p.Status = status
	if status == http.StatusRequestHeaderFieldsTooLarge {
		p = headersTooLarge()
	}
	body := encoded(p)
	return fmt.Appendf(nil, "HTTP/1.1 %d %s\r\nContent-Type: application/problem+json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		status, http.StatusText(status), len(body), body)
}
