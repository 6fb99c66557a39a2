package tasks

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// The reasons why [VerifyCallback] refuses a callback.
var (
	// ErrInvalidSignature means that no signature matches a secret, or that a header is
	// missing.
	ErrInvalidSignature = errors.New("the callback is not signed with any of the given secrets")
	// ErrTooOld means that the callback was signed more than five minutes ago, or that
	// many minutes in the future.
	ErrTooOld = errors.New("the timestamp of the callback is more than five minutes from now; check the clock")
	// ErrReplayed means that the same message was received before.
	ErrReplayed = errors.New("the callback is a replay: the same message was received before")
)

// callbackTolerance is the tolerance of the Standard Webhooks library.
const callbackTolerance = 5 * time.Minute

// ReplayCache remembers the messages that a receiver has verified, so that a recorded
// message cannot be sent again. [MemoryReplayCache] serves a single process. Several
// processes need a shared cache, for example Redis with SET key "" NX PXAT until.
type ReplayCache interface {
	// Add stores a key until the given time. It returns false if the key was stored
	// already.
	Add(key string, until time.Time) (added bool, err error)
}

// VerifyCallback verifies a callback (Standard Webhooks) and returns its event. The
// callback must be signed with one of the secrets (whsec_…), at most five minutes old,
// and not a replay. body is the body of the HTTP request, byte for byte.
//
// Answer [ErrInvalidSignature], [ErrTooOld] and [ErrReplayed] with a 4xx status. Other
// errors come from the cache or from an invalid secret or body. If cache is nil, replays
// are not refused.
//
// A replay is the same message, sent again. A delivery that kyclink repeats because the
// answer was lost or not 2xx has a new signature and is not a replay. So callbacks arrive
// at least once: recognise repeats by [Event].ID, which is the header webhook-id, and
// answer them with 2xx.
func VerifyCallback(secrets []string, header http.Header, body []byte, cache ReplayCache) (Event, error) {
	e := Event{ID: header.Get(standardwebhooks.HeaderWebhookID)}
	if err := verify(secrets, header, body); err != nil {
		return Event{}, err
	}
	if cache != nil {
		sent := header.Get(standardwebhooks.HeaderWebhookTimestamp)
		seconds, _ := strconv.ParseInt(sent, 10, 64) // verify has parsed it
		// Neither part can contain the separator.
		added, err := cache.Add(e.ID+"\x00"+strconv.FormatInt(seconds, 10), time.Unix(seconds, 0).Add(callbackTolerance))
		if err != nil {
			return Event{}, fmt.Errorf("check the callback for a replay: %w", err)
		}
		if !added {
			return Event{}, ErrReplayed
		}
	}
	if err := json.Unmarshal(body, &e); err != nil {
		return Event{}, fmt.Errorf("decode callback %s: %w", e.ID, err)
	}
	return e, nil
}

func verify(secrets []string, header http.Header, body []byte) error {
	for _, secret := range secrets {
		hook, err := standardwebhooks.NewWebhook(secret)
		if err != nil || strings.TrimPrefix(secret, "whsec_") == "" { // anyone can sign with an empty secret
			return errors.New("a callback secret is not whsec_ followed by base64") // err contains the secret
		}
		err = hook.Verify(body, header)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, standardwebhooks.ErrMessageTooOld), errors.Is(err, standardwebhooks.ErrMessageTooNew):
			return ErrTooOld // the signature has not been checked
		}
	}
	return ErrInvalidSignature
}
