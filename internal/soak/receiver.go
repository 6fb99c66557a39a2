package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/kyclink/kyclink/tasks"
)

// callbackSecret signs the callbacks of a run.
const callbackSecret = "whsec_c29hayBjYWxsYmFjayBzZWNyZXQgN2E0MWUwYjk="

// receiver receives callbacks.
type receiver struct {
	addr   string
	book   *book
	server *http.Server
	ended  sync.WaitGroup
}

func openReceiver(b *book) (*receiver, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start the callback receiver: %w", err)
	}
	r := &receiver{addr: l.Addr().String(), book: b}
	r.server = &http.Server{Handler: r, ReadHeaderTimeout: 10 * time.Second}
	r.ended.Go(func() { _ = r.server.Serve(l) }) // always returns an error after Close
	return r, nil
}

func (r *receiver) url() string { return "http://" + r.addr + "/hooks/soak" }

// settings returns the environment variables that permit callbacks to the receiver.
func (*receiver) settings() []string {
	return []string{"KYCLINK_CALLBACK_HOSTS=127.0.0.1", "KYCLINK_CALLBACK_ALLOW_CIDRS=127.0.0.0/8", "KYCLINK_CALLBACK_SECRET=" + callbackSecret}
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // the sender disconnected
	}
	event, err := tasks.VerifyCallback([]string{callbackSecret}, req.Header, body, nil)
	if err != nil {
		r.book.problem("verify a callback: %v", err)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	r.book.received(event.Data.ApplicationID)
	w.WriteHeader(http.StatusNoContent)
}

func (r *receiver) close() {
	_ = r.server.Close()
	r.ended.Wait()
}
