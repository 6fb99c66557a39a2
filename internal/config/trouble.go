package config

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// connectError says why Redis cannot be used, and what to do.
type connectError struct {
	text  string
	cause error
}

func (e *connectError) Error() string { return e.text }
func (e *connectError) Unwrap() error { return e.cause }

// answer is an error that Redis answers with.
type answer struct {
	prefix string
	// setting says that it is the URL or the mode that is wrong.
	setting bool
	// means says what the error means for Redis, and what to do.
	means string
}

// answers are the known ones, by what the error begins with, "ERR" left out.
func answers() []answer {
	return []answer{
		{"NOAUTH", false, "wants a password, and the URL has none; write it into the URL: redis://user:password@host:6379/0"},
		{"WRONGPASS", false, "was given a wrong user or password; correct them in the URL"},
		{"AUTH <password> called without any password", false, "has no password, and the URL has one; leave it out of the URL, or set it in Redis"},
		{"NOPERM", false, "does not allow its user a command, key or channel that kyclink needs; allow all commands but those of @admin, " +
			"the keys {kyclink:* and asynq:*, and the channel asynq:cancel"},
		{"LOADING", false, "is still loading its data from disk; try again when it has"},
		{"MISCONF", false, "refuses writes as it cannot save its data to disk; look at its log, its disk and the rights of its folder"},
		{"OOM", false, "refuses writes as its memory is full; raise its maxmemory, or delete what is not needed"},
		{"READONLY", false, "takes no writes: it is a replica; name its master, or its sentinels (KYCLINK_REDIS_MODE=sentinel)"},
		{"NOREPLICAS", false, "refuses writes as it has too few replicas (min-replicas-to-write); look after its replicas"},
		{"MASTERDOWN", false, "is a replica that does not reach its master; look after the master"},
		{"CLUSTERDOWN", false, "is a cluster in which a part of the slots is served by no node; look after its nodes"},
		{"max number of clients reached", false, "takes no more connections; raise its maxclients, or close other clients"},
		{"DB index is out of range", true, "does not have that database; correct the number at the end of the URL, or raise its setting databases"},
		{"MOVED", true, isCluster},
		{"SELECT is not allowed in cluster mode", true, isCluster},
		{"This instance has cluster support disabled", true, "is not a cluster; unset KYCLINK_REDIS_MODE, or name a cluster's nodes"},
		{"unknown command 'sentinel'", true, "is not a sentinel; name the sentinels, or unset KYCLINK_REDIS_MODE"},
		{"unknown command 'select'", true, isSentinel},
		{"unknown command 'cluster'", true, isSentinel},
	}
}

const (
	isCluster  = "is a node of a cluster; set KYCLINK_REDIS_MODE=cluster"
	isSentinel = "is a sentinel; set KYCLINK_REDIS_MODE=sentinel and add ?master_name=NAME to the URL"
	isReplica  = "is a replica, which takes no writes; name its master, or its sentinels (KYCLINK_REDIS_MODE=sentinel)"
)

// knownAnswer looks an error up that Redis answered with.
func knownAnswer(err error) (answer, bool) {
	for _, a := range answers() {
		if redis.HasErrorPrefix(err, a.prefix) {
			return a, true
		}
	}
	return answer{}, false
}

// Explain says, after the text of an error of Redis' that ended a command, what it
// means and what to do; "" where there is nothing to add.
func Explain(err error) string {
	if _, said := errors.AsType[*connectError](err); said {
		return ""
	}
	if a, ok := knownAnswer(err); ok {
		return "Redis (KYCLINK_REDIS_URL) " + a.means
	}
	return ""
}

// unreachable says why a server cannot be used: what it answered, or that it did not.
func (s server) unreachable(ctx context.Context, err error) error {
	at := fmt.Sprintf("Redis at %s (KYCLINK_REDIS_URL)", s.addr)
	failed := func(format string, args ...any) error {
		return &connectError{at + " " + fmt.Sprintf(format, args...), err}
	}
	a, ok := knownAnswer(err)
	_, answered := errors.AsType[redis.Error](err)
	switch {
	case ok && a.setting:
		return s.wrong(a.means)
	case ok:
		return failed("%s (%v)", a.means, err)
	case s.master != "" && errors.Is(err, redis.Nil):
		return s.wrong(fmt.Sprintf("is a sentinel that knows no master_name %q; correct it in the URL", s.master))
	case answered:
		return failed("answers with an error: %v", err)
	case errors.As(err, new(*tls.CertificateVerificationError)):
		return failed("has a certificate that cannot be verified: %v; correct the URL's host, or add the CA's certificate to the system's (SSL_CERT_FILE)", err)
	case strings.HasPrefix(err.Error(), "redis: can't parse"), strings.HasPrefix(err.Error(), "redis: invalid reply"):
		// go-redis has no type for an answer that is not Redis' protocol.
		return failed("is no Redis, by its answer: %v; check the address and the port", err)
	case ctx.Err() != nil:
		return failed("cannot be reached: no answer within %s (%v); check the address, the network, and whether the URL "+
			"should start with %s", connectWithin, err, s.otherScheme())
	}
	// A server that has too many connections says so and closes; whoever was
	// writing to it by then sees only that.
	if said := greeting(ctx, s.addr); strings.Contains(said, "max number of clients reached") {
		return s.unreachable(ctx, maxClients(said))
	}
	if errors.Is(err, io.EOF) || errors.As(err, new(tls.RecordHeaderError)) {
		return failed("closed the connection without an answer (%v); check the address, and whether the URL should start with %s", err, s.otherScheme())
	}
	return failed("cannot be reached: %v; check that it runs, and the address", err)
}

// otherScheme is what the URL begins with where it is wrong about TLS.
func (s server) otherScheme() string {
	if s.tls != nil {
		return "redis:// (without TLS)"
	}
	return "rediss:// (TLS)"
}

// wrong is a setting that has to be changed.
func (s server) wrong(means string) error {
	return &Error{Problems: []string{fmt.Sprintf("KYCLINK_REDIS_URL: Redis at %s %s", s.addr, means)}}
}

// maxClients is an error that was read from the connection itself.
type maxClients string

func (e maxClients) Error() string { return string(e) }

// RedisError makes it one that Redis answered with.
func (maxClients) RedisError() {}

// greetingWithin is how long a server gets to say something unasked.
const greetingWithin = 500 * time.Millisecond

// greeting is what a server says unasked, without the mark of an error.
func greeting(ctx context.Context, addr string) string {
	conn, err := (&net.Dialer{Timeout: greetingWithin}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return ""
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetReadDeadline(time.Now().Add(greetingWithin)); err != nil {
		return ""
	}
	line, _ := bufio.NewReader(conn).ReadString('\n') // what there is
	return strings.TrimSpace(strings.TrimPrefix(line, "-"))
}

// roleProblem says that the server is not what the mode wants, by its INFO; what it
// does not tell is not held against it.
func (s server) roleProblem(info map[string]string) string {
	switch {
	case info["redis_mode"] == "sentinel":
		return isSentinel
	case info["redis_mode"] == "cluster" && s.mode != Cluster:
		return isCluster
	case info["role"] == "slave" && s.mode != Cluster: // a cluster's client knows its masters
		return isReplica
	}
	return ""
}
