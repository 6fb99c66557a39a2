package config_test

import (
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/config"
	"github.com/kyclink/kyclink/internal/faceki"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/redistest"
)

// A refusal names the user, the command and the pattern of the key, without the ID of a
// request, and is still known as one.
func TestConnect_RefusalsNameTheUserTheCommandAndTheKey(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	fixture.Must(t, srv.Client(t).Do(t.Context(), "ACL", "SETUSER", "shop", "on", ">pw", "~own", "+@all", "-hset").Err())
	rdb, err := connect(t, config.Redis{URL: faceki.Secret("redis://shop:pw@" + srv.Addr)}, zap.NewNop())
	fixture.Must(t, err)
	ctx := t.Context()
	const script = "return redis.call('GET', KEYS[1] .. 'x')"
	for want, command := range map[string]redis.Cmder{
		"user shop, command GET, key {kyclink:a}/*":                  rdb.Get(ctx, "{kyclink:a}/A-1"),
		"user shop, command GET, key {kyclink:a}:old:*":              rdb.Get(ctx, "{kyclink:a}:old:2:A-1"),
		"user shop, command GET, key {kyclink:a}:account":            rdb.Get(ctx, "{kyclink:a}:account"),
		"user shop, command GET, key asynq:{kyclink:a:bulk}:t:*":     rdb.Get(ctx, "asynq:{kyclink:a:bulk}:t:A-1"),
		"user shop, command GET, key asynq:queues":                   rdb.Get(ctx, "asynq:queues"),
		"user shop, command HSET)":                                   rdb.HSet(ctx, "own", "a", "b"),
		"user shop, command EVAL)":                                   rdb.Eval(ctx, script, []string{"own"}),
		"user shop, command XREADGROUP, key {kyclink:a}:results":     rdb.XReadGroup(ctx, &redis.XReadGroupArgs{Group: "g", Consumer: "c", Streams: []string{"{kyclink:a}:results", ">"}}),
		"user shop, command EVALSHA, key {kyclink:a}":                rdb.EvalSha(ctx, "0000000000000000000000000000000000000000", []string{"{kyclink:a}"}),
		"user shop, command LRANGE, key asynq:{kyclink:a:bulk}:lost": rdb.LRange(ctx, "asynq:{kyclink:a:bulk}:lost", 0, -1),
	} {
		if err := command.Err(); err == nil || !redis.IsPermissionError(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want a refusal with: %s", err, want)
		}
		if config.Explain(command.Err()) == "" {
			t.Errorf("%v is not explained", command.Err())
		}
	}
	var good, bad *redis.StringCmd
	_, err = rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		good, bad = pipe.Get(ctx, "own"), pipe.Get(ctx, "{kyclink:a}/A-1")
		return nil
	})
	if want := "user shop, command GET, key {kyclink:a}/*"; !strings.Contains(err.Error(), want) && !strings.Contains(bad.Err().Error(), want) {
		t.Errorf("got %v and %v, want: %s", err, bad.Err(), want)
	}
	if good.Err() != redis.Nil { //nolint:errorlint // it must be unchanged
		t.Errorf("the other command of the pipeline ends with %v", good.Err())
	}
}
