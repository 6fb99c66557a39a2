package main

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/tasks"
)

// place is an account on a Redis, for one scenario of the core suite.
type place struct {
	t        *testing.T
	account  string
	rdb      redis.UniversalClient           // with all permissions
	url      func(role string) string        // of Redis, for a kind of process
	settings []string                        // of Redis, besides the URL
	replace  func(ctx context.Context) error // replaces Redis' master; nil if there is only one
}

// as returns the settings of a kind of process: worker, serve, producer or consumer.
func (p place) as(role string, more ...string) []string {
	return slices.Concat([]string{
		"KYCLINK_REDIS_URL=" + p.url(role), "KYCLINK_ACCOUNT=" + p.account, "KYCLINK_CALLBACK_HOSTS=127.0.0.1",
		"KYCLINK_CALLBACK_ALLOW_CIDRS=127.0.0.0/8", "KYCLINK_CALLBACK_SECRET=" + newSecret,
	}, p.settings, more)
}

// worker starts a worker.
func (p place) worker(settings ...string) *process {
	p.t.Helper()
	return start(p.t, p.as("worker", settings...), "worker", "--simulate")
}

// commander runs a command, and checks its exit code and its output.
type commander func(code int, stdout, stderr string, args ...string) string

// commands returns the commanders of an operator and of a producer.
func (p place) commands() (operate, produce commander) {
	return expecter(p.t, p.as("serve")), expecter(p.t, p.as("producer"))
}

// key returns the name of a key of the account.
func (p place) key(name string) string { return "{kyclink:" + p.account + "}" + name }

// created waits until a request has its link.
func (p place) created(id string) {
	p.t.Helper()
	client := tasks.NewClient(p.rdb, tasks.Config{Account: p.account})
	fixture.Eventually(p.t, id+" is created", func() bool {
		link, err := client.Get(p.t.Context(), id)
		return err == nil && link.Status == tasks.Created
	})
}

// middle is called once in each scenario, while nothing is being written but heartbeats. It
// replaces the master, if there are several, by a replica that has all writes.
func (p place) middle() {
	p.t.Helper()
	if p.replace == nil {
		return
	}
	ctx, cancel := context.WithTimeout(p.t.Context(), 4*time.Minute)
	defer cancel()
	_, err := p.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.Set(ctx, "written-last", "", 0)
		pipe.Do(ctx, "WAIT", 1, 0) // for that write, and all earlier ones
		return nil
	})
	fixture.Must(p.t, err)
	fixture.Must(p.t, p.replace(ctx))
}

// topology is one way to run Redis.
type topology struct {
	name string
	// open starts it, and returns a function that returns an account on it.
	open func(t *testing.T) func(t *testing.T, account string) place
	// alone is set if a scenario disturbs others beside it.
	alone bool
}

func topologies() []topology {
	return []topology{
		{"single", func(*testing.T) func(*testing.T, string) place { return onSingle }, false},
		{"TLS and permissions", func(*testing.T) func(*testing.T, string) place { return onPermitted }, false},
		{"sentinel", func(t *testing.T) func(*testing.T, string) place {
			s := redistest.StartSentinel(t)
			return func(t *testing.T, account string) place {
				p := onSentinel(t, s, account)
				p.replace = func(ctx context.Context) error {
					if err := s.Failover(ctx); err != nil {
						return err
					}
					return s.Rejoin(ctx)
				}
				return p
			}
		}, true},
		{"cluster", func(t *testing.T) func(*testing.T, string) place {
			c := redistest.StartCluster(t)
			return func(t *testing.T, account string) place { return onCluster(t, c, account) }
		}, false},
		{"valkey", func(t *testing.T) func(*testing.T, string) place {
			s := redistest.StartValkey(t)
			return func(t *testing.T, account string) place {
				return place{t: t, account: account, rdb: s.Client(t), url: always(s.URL)}
			}
		}, false},
	}
}

// always returns the URL for every kind of process.
func always(url string) func(string) string { return func(string) string { return url } }

func onSingle(t *testing.T, account string) place {
	d := newRedis(t)
	return place{t: t, account: account, rdb: d.Client(t), url: always(d.URL)}
}

// onPermitted returns an account whose processes have exactly the documented permissions,
// and checks at the end that they were refused nothing.
func onPermitted(t *testing.T, account string) place {
	p := permit(t, account)
	t.Cleanup(func() { p.expectNoRefusal(t) })
	return place{t: t, account: account, rdb: p.admin, url: p.url, settings: p.tls}
}

func onSentinel(t *testing.T, s *redistest.Sentinel, account string) place {
	return place{t: t, account: account, rdb: s.Client(t), url: always(s.URL), settings: []string{"KYCLINK_REDIS_MODE=sentinel"}}
}

func onCluster(t *testing.T, c *redistest.Cluster, account string) place {
	return place{t: t, account: account, rdb: c.Client(t), url: always(c.URL), settings: []string{"KYCLINK_REDIS_MODE=cluster"}}
}

// The same scenarios hold on every Redis that kyclink supports.
func TestCore(t *testing.T) {
	t.Parallel()
	for _, server := range topologies() {
		if wholeCore || server.name == "single" {
			t.Run(server.name, func(t *testing.T) {
				t.Parallel()
				core(t, server.open(t), wholeCore, server.alone)
			})
		}
	}
}

// core runs all scenarios, or the essential ones, each with an account of its own.
func core(t *testing.T, open func(t *testing.T, account string) place, whole, alone bool) {
	for _, s := range scenarios() {
		if whole || s.essential {
			t.Run(s.name, func(t *testing.T) {
				if !alone {
					t.Parallel()
				}
				s.run(open(t, s.name))
			})
		}
	}
}
