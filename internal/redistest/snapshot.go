package redistest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/redis/go-redis/v9"
)

// Snapshot keeps the data as they are now for [Server.LoseWrites]. The server must not
// have been started with an append-only file.
func (s *Server) Snapshot() error {
	ctx, cancel := context.WithTimeout(context.Background(), readyWithin)
	defer cancel()
	err := s.ask(func(rdb *redis.Client) error { return rdb.Save(ctx).Err() })
	if err != nil {
		return fmt.Errorf("save a snapshot: %w", err)
	}
	return copyFile(s.file("dump.rdb"), s.file("snapshot.rdb"))
}

// LoseWrites kills the server and starts it again from the latest [Server.Snapshot],
// as where a machine is lost and its disk's last writes with it.
func (s *Server) LoseWrites() error {
	s.Kill()
	if err := copyFile(s.file("snapshot.rdb"), s.file("dump.rdb")); err != nil {
		return err
	}
	return s.Again()
}

func (s *Server) file(name string) string { return filepath.Join(s.dir, name) }

func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o600)
}
