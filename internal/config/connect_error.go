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

// connectError explains why Redis cannot be used, and what to do.
type connectError struct {
	text  string
	cause error
}

func (e *connectError) Error() string { return e.text }
func (e *connectError) Unwrap() error { return e.cause }

// reply is a known error reply of Redis.
type reply struct {
	prefix string
	// setting reports whether the URL or the mode is wrong.
	setting bool
	// means explains the error and says what to do. It follows the name of the server.
	means string
}

// replies returns the known error replies by their prefix, without "ERR".
func replies() []reply {
	return []reply{
		{"NOAUTH", false, "requires a password, but the URL has none; add it to the URL: redis://user:password@host:6379/0"},
		{"WRONGPASS", false, "refused the user or the password; correct them in the URL"},
		{"AUTH <password> called without any password", false, "has no password, but the URL has one; remove it from the URL, or set it in Redis"},
		{"NOPERM", false, "does not allow its user a command, key or channel that kyclink needs; give the user all rules of its role " +
			"in docs/operations.md (Redis permissions), for this account; ACL LOG lists what was refused"},
		{"LOADING", false, "is still loading its data from disk; try again later"},
		{"MISCONF", false, "refuses writes because it cannot save its data to disk; check its log, its disk and the permissions of its directory"},
		{"OOM", false, "refuses writes because its memory is full; raise its maxmemory, or delete data that is not needed"},
		{"READONLY", false, "accepts no writes: it is a replica; name its master, or its sentinels (KYCLINK_REDIS_MODE=sentinel)"},
		{"NOREPLICAS", false, "refuses writes because it has too few replicas (min-replicas-to-write); check its replicas"},
		{"MASTERDOWN", false, "is a replica that cannot reach its master; check the master"},
		{"CLUSTERDOWN", false, "is a cluster in which no node serves some of the slots; check its nodes"},
		{"max number of clients reached", false, "accepts no more connections; raise its maxclients, or close other clients"},
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
	isReplica  = "is a replica, which accepts no writes; name its master, or its sentinels (KYCLINK_REDIS_MODE=sentinel)"
)

// knownReply returns the known reply that an error of Redis contains.
func knownReply(err error) (reply, bool) {
	for _, r := range replies() {
		if redis.HasErrorPrefix(err, r.prefix) {
			return r, true
		}
	}
	return reply{}, false
}

// Explain returns a text to show after that of an error of Redis: what the error means, and
// what to do. It returns "" if there is nothing to add.
func Explain(err error) string {
	if _, explained := errors.AsType[*connectError](err); explained {
		return ""
	}
	if r, ok := knownReply(err); ok {
		return "Redis (KYCLINK_REDIS_URL) " + r.means
	}
	return ""
}

// unreachable returns the error for a server that cannot be used: it replied with an error,
// or not at all.
func (s server) unreachable(ctx context.Context, err error) error {
	at := fmt.Sprintf("Redis at %s (KYCLINK_REDIS_URL)", s.addr)
	failed := func(format string, args ...any) error {
		return &connectError{at + " " + fmt.Sprintf(format, args...), err}
	}
	r, ok := knownReply(err)
	_, replied := errors.AsType[redis.Error](err)
	switch {
	case ok && r.setting:
		return s.wrong(r.means)
	case ok:
		return failed("%s (%v)", r.means, err)
	case s.master != "" && errors.Is(err, redis.Nil):
		return s.wrong(fmt.Sprintf("is a sentinel that does not know the master_name %q; correct it in the URL", s.master))
	case replied:
		return failed("answers with an error: %v", err)
	case errors.As(err, new(*tls.CertificateVerificationError)):
		return failed("has a certificate that cannot be verified: %v; correct the URL's host, or name the certificate of its CA in KYCLINK_REDIS_CA", err)
	case strings.HasPrefix(err.Error(), "redis: can't parse"), strings.HasPrefix(err.Error(), "redis: invalid reply"):
		// go-redis has no error type for a reply in another protocol.
		return failed("does not reply as a Redis server does: %v; check the address and the port", err)
	case ctx.Err() != nil:
		return failed("cannot be reached: no answer within %s (%v); check the address, the network, and whether the URL "+
			"should start with %s", connectWithin, err, s.otherScheme())
	}
	// A server with too many connections sends an error and closes the connection. A client
	// that was writing sees only that it was closed.
	if text := greeting(ctx, s.addr); strings.Contains(text, "max number of clients reached") {
		return s.unreachable(ctx, maxClients(text))
	}
	if refused := s.refusal(ctx, err); refused != nil {
		return failed("refused the TLS connection (%v); %s", refused, s.acceptable())
	}
	if errors.Is(err, io.EOF) || errors.As(err, new(tls.RecordHeaderError)) {
		return failed("closed the connection without an answer (%v); check the address, and whether the URL should start with %s", err, s.otherScheme())
	}
	return failed("cannot be reached: %v; check that it runs, and the address", err)
}

// otherScheme returns the scheme to try if the URL is wrong about TLS.
func (s server) otherScheme() string {
	if s.tls != nil {
		return "redis:// (without TLS)"
	}
	return "rediss:// (TLS)"
}

// wrong returns the error for a URL or mode that a person must change.
func (s server) wrong(means string) error {
	return &Error{Problems: []string{fmt.Sprintf("KYCLINK_REDIS_URL: Redis at %s %s", s.addr, means)}}
}

// maxClients is the reply of a server with too many connections, as [greeting] read it.
type maxClients string

func (e maxClients) Error() string { return string(e) }

// RedisError marks it as a reply of Redis.
func (maxClients) RedisError() {}

// greetingWithin limits the wait for a greeting.
const greetingWithin = 500 * time.Millisecond

// greeting returns what a server sends on a new connection before any command, without the
// - that begins an error.
func greeting(ctx context.Context, addr string) string {
	conn, err := (&net.Dialer{Timeout: greetingWithin}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return ""
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetReadDeadline(time.Now().Add(greetingWithin)); err != nil {
		return ""
	}
	line, _ := bufio.NewReader(conn).ReadString('\n') // an incomplete line is used as well
	return strings.TrimSpace(strings.TrimPrefix(line, "-"))
}

// roleProblem returns the problem of a server whose INFO shows that it does not match the
// mode, or "".
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
