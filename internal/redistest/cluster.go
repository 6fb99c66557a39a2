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
// promoted two or three seconds after its master fails. A Cluster is not safe for
// concurrent use.
type Cluster struct {
	// URL contains the addresses of the nodes, in the form of redis.ParseClusterURL.
	URL string

	nodes []*node
	down  *node // the killed master, if any
}

type node struct {
	*Server
	busPort int
	id      string
}

// StartCluster runs a cluster until the end of the test. All nodes have the same
// arguments.
func StartCluster(t testing.TB, args ...string) *Cluster {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), formTimeout)
	defer cancel()
	c, err := LaunchCluster(ctx, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// LaunchCluster is [StartCluster] without a test. The caller calls [Cluster.Close].
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
		// The default bus port, 10,000 above the node's, may be out of range.
		if n.busPort, err = FreePort(); err != nil {
			return err
		}
		s.args = append([]string{
			"--bind", "127.0.0.1", "--port", strconv.Itoa(port), "--dir", s.dir, "--save", "", "--appendonly", "no", "--loglevel", "warning",
			"--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(n.busPort), "--cluster-node-timeout", "1500",
			// A replica may take over regardless of how long it was disconnected.
			"--cluster-replica-validity-factor", "0",
			// Each master keeps its only replica.
			"--cluster-allow-replica-migration", "no",
			"--repl-diskless-sync-delay", "0",
		}, args...)
		return nil
	})
	n.Server = server
	return n, err
}

// form joins the nodes to a cluster. The first ones become masters, the others their
// replicas.
func (c *Cluster) form(ctx context.Context) error {
	for i, n := range c.nodes {
		err := n.query(func(rdb *redis.Client) (err error) {
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
	if err := c.awaitHealthy(ctx, shards); err != nil {
		return err
	}
	var replicating errgroup.Group
	for i, n := range c.nodes[shards:] {
		replicating.Go(func() error { return n.replicate(ctx, c.nodes[i]) })
	}
	if err := replicating.Wait(); err != nil {
		return err
	}
	return c.awaitHealthy(ctx, len(c.nodes))
}

func (n *node) replicate(ctx context.Context, master *node) error {
	err := n.query(func(rdb *redis.Client) error { return rdb.ClusterReplicate(ctx, master.id).Err() })
	if err != nil {
		return fmt.Errorf("make a replica: %w", err)
	}
	return poll(ctx, "a replica is in sync with its master", func() bool { return inSync(n.Server) })
}

// awaitHealthy waits until every running node reports that all slots are served, by the
// given number of masters and replicas.
func (c *Cluster) awaitHealthy(ctx context.Context, serving int) error {
	return poll(ctx, "the cluster is healthy", func() bool {
		for _, n := range c.nodes {
			if n != c.down && !n.healthy(ctx, len(c.nodes), serving) {
				return false
			}
		}
		return true
	})
}

func (n *node) healthy(ctx context.Context, nodes, serving int) bool {
	var info string
	seen := map[string]bool{}
	err := n.query(func(rdb *redis.Client) (err error) {
		if info, err = rdb.ClusterInfo(ctx).Result(); err != nil {
			return err
		}
		ranges, err := rdb.ClusterSlots(ctx).Result() //nolint:staticcheck // CLUSTER SHARDS also lists failed nodes
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

// Client returns a new client of the cluster. It is closed at the end of the test.
func (c *Cluster) Client(t testing.TB) *redis.ClusterClient {
	t.Helper()
	o, err := redis.ParseClusterURL(c.URL)
	if err != nil {
		t.Fatal(err)
	}
	o.ContextTimeoutEnabled, o.DialerRetries, o.PoolSize = true, 1, poolSize
	o.ClusterStateReloadInterval = time.Second // also the minimum interval while a node is down
	rdb := redis.NewClusterClient(o)
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// StopReplication stops replication from the master of a key's slot, so that its next
// failover loses later writes.
func (c *Cluster) StopReplication(ctx context.Context, key string) error {
	master, err := c.owner(ctx, key)
	if err != nil {
		return err
	}
	return stopReplication(ctx, master.Server)
}

// Failover kills the master of a key's slot, and waits until its replica has been promoted
// and the cluster is healthy.
func (c *Cluster) Failover(ctx context.Context, key string) error {
	if c.down != nil {
		return errors.New("the killed node has not rejoined yet")
	}
	master, err := c.owner(ctx, key)
	if err != nil {
		return err
	}
	master.Kill()
	c.down = master
	err = poll(ctx, "another node is the master of the slot", func() bool {
		now, err := c.owner(ctx, key)
		return err == nil && now != master && role(now.Server) == "master"
	})
	if err != nil {
		return err
	}
	return c.awaitHealthy(ctx, len(c.nodes)-1)
}

// Rejoin restarts the killed node, and waits until it is a replica in sync with its
// master.
func (c *Cluster) Rejoin(ctx context.Context) error {
	node := c.down
	if node == nil {
		return errors.New("no node is down")
	}
	if err := node.Relaunch(); err != nil {
		return err
	}
	c.down = nil
	if err := poll(ctx, "the node is a replica in sync", func() bool { return inSync(node.Server) }); err != nil {
		return err
	}
	return c.awaitHealthy(ctx, len(c.nodes))
}

// owner returns the master of a key's slot, according to a running node.
func (c *Cluster) owner(ctx context.Context, key string) (*node, error) {
	running := c.nodes[0]
	if running == c.down {
		running = c.nodes[1]
	}
	var owner *node
	err := running.query(func(rdb *redis.Client) error {
		slot, err := rdb.ClusterKeySlot(ctx, key).Result()
		if err != nil {
			return err
		}
		ranges, err := rdb.ClusterSlots(ctx).Result() //nolint:staticcheck // CLUSTER SHARDS also lists failed nodes
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
		err = fmt.Errorf("no node serves the slot of %s", key)
	}
	return owner, err
}

// Close kills all nodes and removes their data.
func (c *Cluster) Close() {
	for _, n := range c.nodes {
		n.Kill()
		n.Close()
	}
}
