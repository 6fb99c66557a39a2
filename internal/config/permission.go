package config

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"
)

// permissions is a hook that adds to each refusal by Redis' access control who was refused
// what. Redis' own text names neither the user nor the key.
type permissions struct{ user string }

// permissionError is a refusal by Redis' access control.
type permissionError struct {
	text string
	err  error
}

func (e *permissionError) Error() string { return e.text }
func (e *permissionError) Unwrap() error { return e.err }

// RedisError marks it as a reply of Redis.
func (*permissionError) RedisError() {}

// DialHook implements [redis.Hook].
func (permissions) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements [redis.Hook].
func (p permissions) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		return p.explain(cmd, next(ctx, cmd))
	}
}

// ProcessPipelineHook implements [redis.Hook].
func (p permissions) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		var refused error
		for _, cmd := range cmds {
			if _, isRefusal := errors.AsType[*permissionError](p.explain(cmd, cmd.Err())); isRefusal {
				refused = cmp.Or(refused, cmd.Err())
			}
		}
		if refusal(err) {
			return refused
		}
		return err
	}
}

// explain returns the error of a command, and changes that of the command if it is a refusal.
func (p permissions) explain(cmd redis.Cmder, err error) error {
	if !refusal(err) {
		return err
	}
	what := "user " + cmp.Or(p.user, "default") + ", command " + strings.ToUpper(cmd.Name())
	for _, arg := range cmd.Args() {
		if key, ok := arg.(string); ok && (strings.HasPrefix(key, "{kyclink:") || strings.HasPrefix(key, "asynq:")) {
			what += ", key " + pattern(key)
			break
		}
	}
	// Up to version 7.0, the error of a script begins otherwise.
	refused := &permissionError{fmt.Sprintf("NOPERM %s (%s)", strings.TrimPrefix(strings.TrimPrefix(err.Error(), "NOPERM "), "ERR "), what), err}
	cmd.SetErr(refused)
	return refused
}

func refusal(err error) bool {
	return redis.IsPermissionError(err) || redis.HasErrorPrefix(err, "The user executing the script can't")
}

// pattern returns the pattern that permits a key, without what identifies a request.
func pattern(key string) string {
	end := strings.IndexByte(key, '}') + 1
	tag, rest := key[:end], key[end:]
	switch name, _, more := strings.Cut(strings.TrimPrefix(rest, ":"), ":"); {
	case end == 0 || rest == "":
		return key
	case rest[0] == '/':
		return tag + "/*"
	case more:
		return tag + ":" + name + ":*"
	}
	return key
}
