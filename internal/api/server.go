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
	headersWithin = 10 * time.Second
	idleWithin    = 2 * time.Minute
	// Longer headers than maxHeaders are answered by us up to here, and beyond it
	// by net/http.
	mostHeaders = 64 << 10
	// drainWithin is for uploads and exports that are under way.
	drainWithin = 20 * time.Second
)

// Serve answers requests that come through l until ctx ends, and then those that
// are under way: whoever waits for a link is answered at once, everybody else as
// soon as may be, within 20 s. certificate is nil where there is no TLS.
func (a *API) Serve(ctx context.Context, l net.Listener, certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)) error {
	base, abort := context.WithCancel(context.WithoutCancel(ctx))
	defer abort()
	server := &http.Server{
		Handler: a, ReadHeaderTimeout: headersWithin, IdleTimeout: idleWithin, MaxHeaderBytes: mostHeaders,
		ErrorLog:    zap.NewStdLog(a.Log.WithOptions(zap.IncreaseLevel(zap.ErrorLevel))), // what clients do wrong is none of ours
		BaseContext: func(net.Listener) context.Context { return base },
		// OPTIONS * would be answered to whoever asks, without a key.
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
	a.Log.Info("stopping: requests that came are answered", zap.Duration("at_most", drainWithin))
	a.Drain()
	draining, cancel := context.WithTimeout(base, drainWithin)
	defer cancel()
	if err := server.Shutdown(draining); err != nil {
		a.Log.Warn("some requests took too long and are broken off", zap.Error(err))
		abort()
		_ = server.Close() // only connections that are closed already fail
	}
	a.Log.Info("stopped")
	return nil
}

// plainListener gives connections on which what net/http answers by itself, to
// what it cannot read as HTTP, is a problem document, too.
type plainListener struct{ net.Listener }

func (l plainListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return plainConn{conn}, nil
}

type plainConn struct{ net.Conn }

// CloseWrite lets net/http say goodbye so that its last answer arrives.
func (c plainConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// Write sees such an answer as one write.
func (c plainConn) Write(p []byte) (int, error) {
	status := madeByItself(p)
	if status == 0 {
		return c.Conn.Write(p)
	}
	if _, err := c.Conn.Write(bare(status)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// madeByItself gives the status of an answer that net/http makes by itself, 0 of
// any other: it begins as none of ours does.
func madeByItself(answer []byte) int {
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

// bare is a whole answer to what is no request.
func bare(status int) []byte {
	p := unreadable("", "this is no HTTP request that can be read")
	p.Status = status
	if status == http.StatusRequestHeaderFieldsTooLarge {
		p = headersTooLarge()
	}
	body := encoded(p)
	return fmt.Appendf(nil, "HTTP/1.1 %d %s\r\nContent-Type: application/problem+json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		status, http.StatusText(status), len(body), body)
}
