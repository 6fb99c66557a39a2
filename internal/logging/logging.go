// Package logging makes the process' logger, and lets the libraries that
// print by themselves speak through it.
//
// It never sees a secret: whoever logs leaves secrets, link ids and link URLs
// out.
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

// Config is what is said about logging. Its zero value logs JSON from level
// info on.
type Config struct {
	// Level is the least level that is logged: debug, info, warn or error.
	Level string `env:"KYCLINK_LOG_LEVEL,default=info"`
	// Format is json or console; where it is empty, whoever knows where the
	// lines go decides.
	Format string `env:"KYCLINK_LOG_FORMAT"`
}

// Validate gives all problems at once, each with its variable's name.
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

// New is the logger that writes lines to w, which it locks. A level that
// Validate refuses is taken as info.
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

// Limited is log with each message passed once in every 10 s: for libraries
// that repeat themselves in a hot loop, as asynq does while Redis is away. Our
// own lines do not go through it, as each of them tells of another request.
func Limited(log *zap.Logger) *zap.Logger {
	return log.WithOptions(zap.WrapCore(func(core zapcore.Core) zapcore.Core {
		return zapcore.NewSamplerWithOptions(core, 10*time.Second, 1, 0)
	}))
}

// RedirectRedis makes go-redis, whose logger is one for the whole process,
// print through log instead of standard error. Call it once, before the first
// client is made.
func RedirectRedis(log *zap.Logger) {
	redis.SetLogger(redisLogger{Limited(log.Named("redis")).Sugar()})
}

type redisLogger struct{ log *zap.SugaredLogger }

// Printf is what go-redis calls. It gives no level; what it prints by default
// are failures that it goes on to retry.
func (l redisLogger) Printf(_ context.Context, format string, args ...any) {
	l.log.Warnf(format, args...)
}
