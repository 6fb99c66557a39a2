package logging

import (
	"hash/maphash"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const (
	limitedPause = 10 * time.Second
	// limitedSlots is the number of messages that a limiter remembers at most. Programs repeat
	// few different ones.
	limitedSlots = 128
)

// Limited returns a logger that passes each message once in 10 s: for libraries that
// repeat messages in a loop, as asynq does while Redis is away.
//
// It takes 2 KiB. zap's sampler takes 450 KiB, which is too much for one in each of hundreds
// of accounts.
func Limited(log *zap.Logger) *zap.Logger {
	return log.WithOptions(zap.WrapCore(func(core zapcore.Core) zapcore.Core {
		return &limiter{core, &passed{seed: maphash.MakeSeed()}}
	}))
}

// limiter is a core that drops entries whose message it has just passed.
type limiter struct {
	zapcore.Core
	passed *passed
}

// passed remembers the messages that were passed. Of two that share a slot it knows the later
// one, and passes the other again.
type passed struct {
	seed  maphash.Seed
	mu    sync.Mutex
	slots [limitedSlots]struct {
		message uint64
		at      time.Duration // since 1970
	}
}

// With implements [zapcore.Core].
func (l *limiter) With(fields []zapcore.Field) zapcore.Core {
	return &limiter{l.Core.With(fields), l.passed}
}

// Check implements [zapcore.Core].
func (l *limiter) Check(e zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if !l.Enabled(e.Level) || !l.passed.add(e) {
		return checked
	}
	return l.Core.Check(e, checked)
}

// add returns false if the entry's message was passed within the pause.
func (p *passed) add(e zapcore.Entry) bool {
	message, now := maphash.String(p.seed, e.Level.String()+e.Message), time.Duration(e.Time.UnixNano())
	p.mu.Lock()
	defer p.mu.Unlock()
	slot := &p.slots[message%limitedSlots]
	if since := now - slot.at; slot.message == message && since >= 0 && since < limitedPause {
		return false
	}
	slot.message, slot.at = message, now
	return true
}
