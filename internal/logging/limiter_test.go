package logging_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/kyclink/kyclink/internal/logging"
)

// A message passes again after 10 s, whatever its fields are; another level or text is another
// message.
func TestLimited_PassesAMessageAgainLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zapcore.InfoLevel)
		log := logging.Limited(zap.New(core))
		for i := range 25 { // seconds
			log.Info("away", zap.Int("i", i))
			log.With(zap.String("lane", "bulk")).Info("away")
			log.Warn("away")
			log.Debug("not logged")
			<-time.After(time.Second)
		}
		if info, warn := logs.FilterLevelExact(zapcore.InfoLevel).Len(), logs.FilterLevelExact(zapcore.WarnLevel).Len(); info != 3 || warn != 3 {
			t.Errorf("%d and %d lines in 25 s, want 3 of each level", info, warn)
		}
	})
}

// Messages with changing texts pass, and do not make those that repeat pass much more often.
func TestLimited_PassesManyMessages(t *testing.T) {
	core, logs := observer.New(zapcore.InfoLevel)
	log := logging.Limited(zap.New(core))
	for i := range 1000 {
		log.Info(fmt.Sprint("task ", i))
		log.Info("away")
	}
	if n := logs.FilterMessage("away").Len(); n < 1 || n > 100 {
		t.Errorf("a message that repeats passed %d times beside a thousand others", n)
	}
	if n := logs.Len() - logs.FilterMessage("away").Len(); n != 1000 {
		t.Errorf("%d of a thousand messages passed", n)
	}
}
