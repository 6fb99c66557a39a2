package main

import (
	"os"
	"slices"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/kyclink/kyclink/internal/config"
)

// runLogger returns a logger of what a person can act on, unless KYCLINK_LOG_LEVEL is set.
// The messages of the run's watch say what FaceKi answers and how the gate reacts.
func runLogger(cfg config.Config, bar *progress) *zap.Logger {
	if _, given := os.LookupEnv("KYCLINK_LOG_LEVEL"); given {
		return newLogger(cfg, zapcore.AddSync(bar))
	}
	cfg.Log.Level = "warn"
	return newLogger(cfg, zapcore.AddSync(bar)).WithOptions(zap.WrapCore(func(core zapcore.Core) zapcore.Core { return withoutFaults{core} }))
}

// withoutFaults drops warnings with the reason of a fault, and the message that the batch
// is paused because its rows are refused, which is the run's error too.
type withoutFaults struct{ zapcore.Core }

func (c withoutFaults) With(fields []zapcore.Field) zapcore.Core {
	return withoutFaults{c.Core.With(fields)}
}

func (c withoutFaults) Check(e zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return checked.AddCore(e, c)
	}
	return checked
}

func (c withoutFaults) Write(e zapcore.Entry, fields []zapcore.Field) error {
	has := func(key string) bool {
		return slices.ContainsFunc(fields, func(f zapcore.Field) bool { return f.Key == key })
	}
	if e.Level == zap.WarnLevel && has("reason") || has("in_a_row") {
		return nil
	}
	return c.Core.Write(e, fields)
}
