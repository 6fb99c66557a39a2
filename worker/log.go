package worker

import (
	"fmt"
	"strings"

	"go.uber.org/zap"
)

// asynqLog is asynq's Logger. Its lines carry task ids, hundreds in one of them:
// the message is what all of a kind have in common, so that a limited logger
// knows them for the same, and the rest of the line is cut.
type asynqLog struct{ log *zap.Logger }

const longestDetail = 300

func (l asynqLog) line(args []any) (string, zap.Field) {
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

func (l asynqLog) Debug(args ...any) { kind, detail := l.line(args); l.log.Debug(kind, detail) }
func (l asynqLog) Info(args ...any)  { kind, detail := l.line(args); l.log.Info(kind, detail) }
func (l asynqLog) Warn(args ...any)  { kind, detail := l.line(args); l.log.Warn(kind, detail) }
func (l asynqLog) Error(args ...any) { kind, detail := l.line(args); l.log.Error(kind, detail) }

// Fatal does not end the process: who runs the worker decides that.
func (l asynqLog) Fatal(args ...any) { l.Error(args...) }
