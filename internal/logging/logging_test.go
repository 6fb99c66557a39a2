package logging_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/kyclink/kyclink/internal/logging"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConfig_Validates(t *testing.T) {
	for _, c := range []logging.Config{{}, {Level: "debug", Format: "json"}, {Level: "error", Format: "console"}} {
		if problems := c.Validate(); problems != nil {
			t.Errorf("%+v: %v", c, problems)
		}
	}
	got := logging.Config{Level: "fatal", Format: "xml"}.Validate()
	want := "KYCLINK_LOG_LEVEL is \"fatal\"; use debug, info, warn or error\n" +
		"KYCLINK_LOG_FORMAT is \"xml\"; use json or console"
	if err := errors.Join(got...); err == nil || err.Error() != want {
		t.Errorf("got:\n%v\nwant:\n%s", err, want)
	}
}

func TestNew_LogsFromLevelOn(t *testing.T) {
	for level, want := range map[string]string{"": "IWE", "debug": "DIWE", "info": "IWE", "warn": "WE", "error": "E"} {
		var out bytes.Buffer
		log := logging.New(logging.Config{Level: level}, zapcore.AddSync(&out))
		log.Debug("D")
		log.Info("I")
		log.Warn("W")
		log.Error("E")
		var got string
		for line := range strings.Lines(out.String()) {
			var entry struct{ Msg string }
			if err := json.Unmarshal([]byte(line), &entry); err != nil {
				t.Fatalf("level %q: line %q: %v", level, line, err)
			}
			got += entry.Msg
		}
		if got != want {
			t.Errorf("level %q logged %q, want %q", level, got, want)
		}
	}
}

func TestNew_Formats(t *testing.T) {
	var out bytes.Buffer
	logging.New(logging.Config{Format: logging.JSON}, zapcore.AddSync(&out)).
		Info("attempt", zap.String("application_id", "A-1"), zap.Duration("took", time.Second))
	var entry map[string]any
	if err := json.Unmarshal(out.Bytes(), &entry); err != nil {
		t.Fatal(err)
	}
	if _, err := time.Parse(time.RFC3339Nano, entry["time"].(string)); err != nil {
		t.Error(err)
	}
	delete(entry, "time")
	if got, want := len(entry), 4; got != want || entry["level"] != "info" || entry["msg"] != "attempt" ||
		entry["application_id"] != "A-1" || entry["took"] != "1s" {
		t.Errorf("line %v", entry)
	}

	out.Reset()
	logging.New(logging.Config{Format: logging.Console}, zapcore.AddSync(&out)).Warn("slow", zap.Int("slots", 2))
	if _, rest, _ := strings.Cut(out.String(), "  "); rest != "WARN  slow  {\"slots\": 2}\n" {
		t.Errorf("console line %q", out.String())
	}
}

func TestLimited_PassesAMessageOnce(t *testing.T) {
	core, logs := observer.New(zapcore.DebugLevel)
	log := logging.Limited(zap.New(core)).Sugar()
	for range 1000 {
		log.Errorf("Dequeue error: %v", errors.New("connection refused"))
	}
	log.Error("another")
	if got := logs.Len(); got != 2 {
		t.Errorf("%d lines, want 2", got)
	}
}

// A failover client logs sentinels that it cannot reach, besides returning an error.
func TestRedirectRedis_LogsThroughTheLogger(t *testing.T) {
	core, logs := observer.New(zapcore.DebugLevel)
	logging.RedirectRedis(zap.New(core))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	rdb := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "m", SentinelAddrs: []string{addr}, MaxRetries: -1})
	defer func() { _ = rdb.Close() }()
	if err := rdb.Ping(t.Context()).Err(); err == nil {
		t.Fatal("nothing listens, but the ping succeeded")
	}
	if logs.FilterLoggerName("redis").Len() == 0 {
		t.Errorf("go-redis logged nothing through the logger; all lines: %v", logs.All())
	}
}
