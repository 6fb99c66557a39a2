// Package logging creates the logger of a process, and redirects the output of libraries
// to it.
//
// It does not remove secrets: callers must not pass secrets, link ids or link URLs.
package logging

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Formats of log lines.
const (
	JSON    = "json"
	Console = "console"
)

// Config configures the logger. Its zero value logs JSON from level info on.
type Config struct {
	// Level is the lowest level that is logged: debug, info, warn or error.
	Level string `env:"KYCLINK_LOG_LEVEL,default=info"`
	// Format is json or console; if empty, the caller chooses by whether standard
	// error is a terminal.
	Format string `env:"KYCLINK_LOG_FORMAT"`
}

// Validate returns all problems, each of which names its variable.
func (c Config) Validate() []error {
	var problems []error
	if levels := []string{"", "debug", "info", "warn", "error"}; !slices.Contains(levels, c.Level) {
		problems = append(problems, fmt.Errorf("KYCLINK_LOG_LEVEL is %q; use debug, info, warn or error", c.Level))
	}
	if formats := []string{"", JSON, Console}; !slices.Contains(formats, c.Format) {
		problems = append(problems, fmt.Errorf("KYCLINK_LOG_FORMAT is %q; use json or console", c.Format))
	}
	return problems
}

// New returns a logger that writes lines to w, which it locks. An invalid level counts as
// info.
func New(c Config, w zapcore.WriteSyncer) *zap.Logger {
	level, err := zapcore.ParseLevel(c.Level)
	if err != nil || c.Level == "" {
		level = zapcore.InfoLevel
	}
	return zap.New(zapcore.NewCore(encoder(c.Format), zapcore.Lock(w), level))
}

func encoder(format string) zapcore.Encoder {
	e := zap.NewProductionEncoderConfig()
	e.TimeKey = "time"
	e.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	e.EncodeDuration = zapcore.StringDurationEncoder
	if format != Console {
		return zapcore.NewJSONEncoder(e)
	}
	e.EncodeTime = zapcore.TimeEncoderOfLayout(time.TimeOnly)
	e.EncodeLevel = zapcore.CapitalLevelEncoder
	e.ConsoleSeparator = "  "
	return zapcore.NewConsoleEncoder(e)
}

// RedirectRedis makes go-redis log to log instead of standard error, for the whole
// process. Call it once, before the first client is made.
func RedirectRedis(log *zap.Logger) {
	redis.SetLogger(redisLogger{Limited(log.Named("redis")).Sugar()})
}

type redisLogger struct{ log *zap.SugaredLogger }

// Printf implements go-redis' logger. go-redis passes no level; by default it logs
// failures that it retries.
func (l redisLogger) Printf(_ context.Context, format string, args ...any) {
	l.log.Warnf(format, args...)
}
