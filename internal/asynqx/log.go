package asynqx

import (
	"fmt"
	"strings"

	"go.uber.org/zap"
)

// logger implements asynq.Logger. asynq's lines contain task ids, hundreds in one line:
// the message is the part that all lines of a kind have in common, so that a rate-limited
// logger can recognise them, and the rest of the line is truncated.
type logger struct{ log *zap.Logger }

const longestDetail = 300

func (l logger) line(args []any) (string, zap.Field) {
	text := fmt.Sprint(args...)
	kind := text
	for _, mark := range []string{"[", ":", " id=", " for queue"} {
		kind, _, _ = strings.Cut(kind, mark)
	}
	if len(text) > longestDetail {
		text = text[:longestDetail] + "…"
	}
	return "asynq: " + strings.TrimSpace(kind), zap.String("detail", text)
}

func (l logger) Debug(args ...any) { kind, detail := l.line(args); l.log.Debug(kind, detail) }
func (l logger) Info(args ...any)  { kind, detail := l.line(args); l.log.Info(kind, detail) }
func (l logger) Warn(args ...any)  { kind, detail := l.line(args); l.log.Warn(kind, detail) }
func (l logger) Error(args ...any) { kind, detail := l.line(args); l.log.Error(kind, detail) }

// Fatal does not end the process, unlike that of asynq's own logger.
func (l logger) Fatal(args ...any) { l.Error(args...) }
