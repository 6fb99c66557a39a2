package redistest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"
)

const (
	shards = 3
	slots  = 16384
)

// Cluster is a Redis Cluster of three masters with one replica each. A replica is
// promoted two or three seconds after its master fails. Its methods are
// for one goroutine at a time.
type Cluster struct {
	// URL names the nodes as go-redis' ParseClusterURL reads it.
	URL string

	nodes []*node
	gone  *node // the master that was killed
}

type node struct {
	*Server
	busPort int
	id      string
}

// StartCluster runs it until the end of the test. The arguments are those of all
// nodes.
func StartCluster(t testing.TB, args ...string) *Cluster {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), settleWithin)
	defer cancel()
	c, err := LaunchCluster(ctx, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// LaunchCluster is [StartCluster] without a test: whoever calls it calls
// [Cluster.Close].
func LaunchCluster(ctx context.Context, args ...string) (_ *Cluster, err error) {
	c := &Cluster{}
	defer func() {
		if err != nil {
			c.Close()
		}
	}()
	query := url.Values{}
	for range 2 * shards {
		n, err := launchNode(args)
		if err != nil {
			return nil, err
		}
		c.nodes = append(c.nodes, n)
		query.Add("addr", n.Addr)
	}
	c.URL = "redis://" + c.nodes[0].Addr + "?" + query.Encode()
	return c, c.form(ctx)
}

func launchNode(args []string) (*node, error) {
	n := &node{}
	server, err := launch(func(s *Server, port int) (err error) {
		// The bus' usual port, 10000 above, may be none at all.
		if n.busPort, err = FreePort(); err != nil {
			return err
		}
		s.args = append([]string{
			"--bind", "127.0.0.1", "--port", strconv.Itoa(port), "--dir", s.dir, "--save", "", "--appendonly", "no", "--loglevel", "warning",
			"--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(n.busPort), "--cluster-node-timeout", "1500",
			// A replica takes over however long it was cut off.
			"--cluster-replica-validity-factor", "0",
			// Its master's only one, a replica must not wander off to another.
			"--cluster-allow-replica-migration", "no",
			"--repl-diskless-sync-delay", "0",
		}, args...)
		return nil
	})
	n.Server = server
	return n, err
}

// form makes a cluster of the nodes: the first ones are masters, the others
// their replicas.
func (c *Cluster) form(ctx context.Context) error {
	for i, n := range c.nodes {
		err := n.ask(func(rdb *redis.Client) (err error) {
			if n.id, err = rdb.ClusterMyID(ctx).Result(); err != nil {
				return err
			}
			if err := rdb.Do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", i+1).Err(); err != nil {
				return err
			}
			if i < shards {
				if err := rdb.ClusterAddSlotsRange(ctx, i*slots/shards, (i+1)*slots/shards-1).Err(); err != nil {
					return err
				}
			}
			first := c.nodes[0]
			_, port, _ := strings.Cut(first.Addr, ":")
			return rdb.Do(ctx, "CLUSTER", "MEET", "127.0.0.1", port, first.busPort).Err()
		})
		if err != nil {
			return fmt.Errorf("set up a node: %w", err)
		}
	}
	if err := c.settled(ctx, shards); err != nil {
		return err
	}
	var replicating errgroup.Group
	for i, n := range c.nodes[shards:] {
		replicating.Go(func() error { return n.replicate(ctx, c.nodes[i]) })
	}
	if err := replicating.Wait(); err != nil {
		return err
	}
	return c.settled(ctx, len(c.nodes))
}

func (n *node) replicate(ctx context.Context, master *node) error {
	err := n.ask(func(rdb *redis.Client) error { return rdb.ClusterReplicate(ctx, master.id).Err() })
	if err != nil {
		return fmt.Errorf("make a replica: %w", err)
	}
	return poll(ctx, "a replica has what its master has", func() bool { return linked(n.Server) })
}

// settled waits until every node that is there says that all slots are served,
// by so many nodes, replicas included.
func (c *Cluster) settled(ctx context.Context, serving int) error {
	return poll(ctx, "the cluster is whole", func() bool {
		for _, n := range c.nodes {
			if n != c.gone && !n.settled(ctx, len(c.nodes), serving) {
				return false
			}
		}
		return true
	})
}

func (n *node) settled(ctx context.Context, nodes, serving int) bool {
	var info string
	seen := map[string]bool{}
	err := n.ask(func(rdb *redis.Client) (err error) {
		if info, err = rdb.ClusterInfo(ctx).Result(); err != nil {
			return err
		}
		ranges, err := rdb.ClusterSlots(ctx).Result() //nolint:staticcheck // CLUSTER SHARDS names dead nodes, too
		for _, r := range ranges {
			for _, at := range r.Nodes {
				seen[at.ID] = true
			}
		}
		return err
	})
	return err == nil && len(seen) == serving && strings.Contains(info, "cluster_state:ok") &&
		strings.Contains(info, "cluster_slots_ok:"+strconv.Itoa(slots)) && strings.Contains(info, "cluster_known_nodes:"+strconv.Itoa(nodes))
}

// Client is a new client of the cluster, closed at the end of the test.
func (c *Cluster) Client(t testing.TB) *redis.ClusterClient {
	t.Helper()
	o, err := redis.ParseClusterURL(c.URL)
	if err != nil {
		t.Fatal(err)
	}
	o.ContextTimeoutEnabled, o.DialerRetries = true, 1
	o.ClusterStateReloadInterval = time.Second // it asks no more often, even if a node is down
	rdb := redis.NewClusterClient(o)
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// Part lets the replica of a key's node get nothing any more of what is written,
// so that the next failover of it loses it.
func (c *Cluster) Part(ctx context.Context, key string) error {
	master, err := c.owner(ctx, key)
	if err != nil {
		return err
	}
	return part(ctx, master.Server)
}

// Failover kills the node that has a key's slot, and waits until its replica has
// taken its place and every node knows.
func (c *Cluster) Failover(ctx context.Context, key string) error {
	if c.gone != nil {
		return errors.New("the last node that was killed has not been brought back")
	}
	master, err := c.owner(ctx, key)
	if err != nil {
		return err
	}
	master.Kill()
	c.gone = master
	err = poll(ctx, "another node has the slot", func() bool {
		now, err := c.owner(ctx, key)
		return err == nil && now != master && role(now.Server) == "master"
	})
	if err != nil {
		return err
	}
	return c.settled(ctx, len(c.nodes)-1)
}

// Return starts the node that was killed again, and waits until it is a replica
// that has what its master has.
func (c *Cluster) Return(ctx context.Context) error {
	back := c.gone
	if back == nil {
		return errors.New("no node was killed")
	}
	if err := back.Again(); err != nil {
		return err
	}
	c.gone = nil
	if err := poll(ctx, "the node is a replica", func() bool { return linked(back.Server) }); err != nil {
		return err
	}
	return c.settled(ctx, len(c.nodes))
}

// owner asks a node that is there for the master of a key's slot.
func (c *Cluster) owner(ctx context.Context, key string) (*node, error) {
	asked := c.nodes[0]
	if asked == c.gone {
		asked = c.nodes[1]
	}
	var owner *node
	err := asked.ask(func(rdb *redis.Client) error {
		slot, err := rdb.ClusterKeySlot(ctx, key).Result()
		if err != nil {
			return err
		}
		ranges, err := rdb.ClusterSlots(ctx).Result() //nolint:staticcheck // CLUSTER SHARDS names dead nodes, too
		for _, r := range ranges {
			for _, n := range c.nodes {
				if r.Start <= int(slot) && int(slot) <= r.End && len(r.Nodes) > 0 && n.id == r.Nodes[0].ID {
					owner = n
				}
			}
		}
		return err
	})
	if err == nil && owner == nil {
		err = fmt.Errorf("no node has the slot of %s", key)
	}
	return owner, err
}

// Close ends all nodes and removes their data.
func (c *Cluster) Close() {
	for _, n := range c.nodes {
		n.Kill()
		n.Close()
	}
}
