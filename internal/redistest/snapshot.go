package redistest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/redis/go-redis/v9"
)

// Snapshot saves the current data for [Server.LoseWrites]. It does not work with an
// append-only file.
func (s *Server) Snapshot() error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	err := s.query(func(rdb *redis.Client) error { return rdb.Save(ctx).Err() })
	if err != nil {
		return fmt.Errorf("save a snapshot: %w", err)
	}
	return copyFile(s.file("dump.rdb"), s.file("snapshot.rdb"))
}

// LoseWrites kills the server and restarts it from the latest [Server.Snapshot], as if a
// machine failed before its last writes reached the disk.
func (s *Server) LoseWrites() error {
	s.Kill()
	if err := copyFile(s.file("snapshot.rdb"), s.file("dump.rdb")); err != nil {
		return err
	}
	return s.Relaunch()
}

func (s *Server) file(name string) string { return filepath.Join(s.dir, name) }

func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o600)
}
