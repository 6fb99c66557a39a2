package tasks

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// Why a callback is refused.
var (
	// ErrInvalidSignature: no signature is by one of the secrets, or a header is missing.
	ErrInvalidSignature = errors.New("the callback is not signed with any of the secrets")
	// ErrTooOld: it was signed more than five minutes ago, or will be.
	ErrTooOld = errors.New("the callback's timestamp is too far from now; is the clock right?")
	// ErrReplayed: this very message was seen before.
	ErrReplayed = errors.New("the callback is a replay of one that was seen before")
)

// callbackTolerance is the library's.
const callbackTolerance = 5 * time.Minute

// ReplayCache remembers which messages a receiver has had, so that a recorded one
// cannot be played again. [MemoryReplayCache] is one for a single process; with several, keep
// it where all of them look, as with Redis' SET key "" NX PXAT until.
type ReplayCache interface {
	// Add says that the key was not given before. It is remembered until then.
	Add(key string, until time.Time) (bool, error)
}

// VerifyCallback gives the event of a callback (Standard Webhooks) that is
// signed with one of the secrets (whsec_…), was sent within the last five minutes
// and is no replay. Its errors are [ErrInvalidSignature], [ErrTooOld] and [ErrReplayed],
// which deserve a 4xx, and what seen or the body is at fault for. body is the
// request's, byte for byte.
//
// A replay is the same message once more. A delivery that kyclink tries again,
// because the answer was lost or not 2xx, is signed anew and passes: callbacks
// come at least once, and their repeats are told apart by [Event].ID, which is the
// header webhook-id. Answer a repeat with 2xx.
//
// Where seen is nil nothing is refused as a replay.
func VerifyCallback(secrets []string, header http.Header, body []byte, seen ReplayCache) (Event, error) {
	e := Event{ID: header.Get(standardwebhooks.HeaderWebhookID)}
	if err := verify(secrets, header, body); err != nil {
		return Event{}, err
	}
	if seen != nil {
		sent := header.Get(standardwebhooks.HeaderWebhookTimestamp)
		seconds, _ := strconv.ParseInt(sent, 10, 64) // it was verified
		// A byte that neither can hold stands between them.
		first, err := seen.Add(e.ID+"\x00"+strconv.FormatInt(seconds, 10), time.Unix(seconds, 0).Add(callbackTolerance))
		if err != nil {
			return Event{}, fmt.Errorf("find out whether the callback is a replay: %w", err)
		}
		if !first {
			return Event{}, ErrReplayed
		}
	}
	if err := json.Unmarshal(body, &e); err != nil {
		return Event{}, fmt.Errorf("callback %s: %w", e.ID, err)
	}
	return e, nil
}

func verify(secrets []string, header http.Header, body []byte) error {
	for _, secret := range secrets {
		hook, err := standardwebhooks.NewWebhook(secret)
		if err != nil || strings.TrimPrefix(secret, "whsec_") == "" { // with which anybody can sign
			return errors.New("a callback secret is not whsec_ and base64") // its text is in err
		}
		err = hook.Verify(body, header)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, standardwebhooks.ErrMessageTooOld), errors.Is(err, standardwebhooks.ErrMessageTooNew):
			return ErrTooOld // whoever signed it
		}
	}
	return ErrInvalidSignature
}

// MemoryReplayCache is a [ReplayCache] in this process, for [MaxReplayCache] messages: where more come
// within five minutes the oldest are forgotten. The zero value is ready. It is safe
// for concurrent use.
type MemoryReplayCache struct {
	mu    sync.Mutex
	until map[string]time.Time
	order []string // as they came
}

// MaxReplayCache is how many messages a [MemoryReplayCache] remembers at most.
const MaxReplayCache = 100_000

// First implements [ReplayCache].
func (m *MemoryReplayCache) Add(key string, until time.Time) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, known := m.until[key]; known {
		return false, nil
	}
	if m.until == nil {
		m.until = make(map[string]time.Time)
	}
	now := time.Now()
	for len(m.order) > 0 && (len(m.order) >= MaxReplayCache || m.until[m.order[0]].Before(now)) {
		delete(m.until, m.order[0])
		m.order = m.order[1:]
	}
	m.until[key] = until
	m.order = append(m.order, key)
	return true, nil
}
