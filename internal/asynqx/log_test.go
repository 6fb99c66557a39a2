package asynqx

import (
	"fmt"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func TestLogger_MovesVaryingTextOfAsynqIntoTheDetail(t *testing.T) {
	core, lines := observer.New(zap.DebugLevel)
	log := logger{zap.New(core)}
	ids := strings.Repeat("A-1:1:1:1 ", 500)
	for i := range 3 {
		log.Warn(fmt.Sprintf("Failed to extend lease for tasks [%d %s]: connection refused", i, ids))
		log.Error(fmt.Sprintf("Could not remove task id=%d type=\"x\": connection refused", i))
		log.Warn(fmt.Sprintf("Dequeue error: UNKNOWN: dial tcp 127.0.0.1:%d", i))
	}
	kinds := map[string]int{}
	for _, line := range lines.All() {
		kinds[line.Message]++
		if detail := line.ContextMap()["detail"].(string); len(detail) > 310 || !strings.Contains(detail, " ") {
			t.Errorf("%q: got detail %q, want at most 310 bytes of words", line.Message, detail)
		}
	}
	for _, kind := range []string{"asynq: Failed to extend lease for tasks", "asynq: Could not remove task", "asynq: Dequeue error"} {
		if kinds[kind] != 3 {
			t.Errorf("message %q was logged %d times, want 3; all messages: %v", kind, kinds[kind], kinds)
		}
	}
}
