package main

import (
	"io"
	"net/http"
	"net/http/httptest"

	"github.com/kyclink/kyclink/tasks"
)

// callbackSecret signs the callbacks of a run.
const callbackSecret = "whsec_c29hayBjYWxsYmFjayBzZWNyZXQgN2E0MWUwYjk="

// openReceiver starts a receiver of callbacks, which the caller closes.
func openReceiver(b *book) *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return // the sender disconnected
		}
		event, err := tasks.VerifyCallback([]string{callbackSecret}, req.Header, body, nil)
		if err != nil {
			b.problem("verify a callback: %v", err)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		b.received(event.Data.ApplicationID)
		w.WriteHeader(http.StatusNoContent)
	}))
}
