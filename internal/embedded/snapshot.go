package embedded

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/redis/go-redis/v9"
)

// snapshotVersion is the version of the format of a snapshot.
const snapshotVersion = 1

// snapshot is everything that a Redis stores, as a file contains it. Values are bytes:
// tasks of asynq are not text.
type snapshot struct {
	Version int     `json:"version"`
	Values  []value `json:"values"`
}

// value is one key. Items are the string, the elements of a list or set, the fields and
// values of a hash in turns, or the members of a sorted set, whose scores are in Scores.
type value struct {
	Key       []byte    `json:"key"`
	Type      string    `json:"type"`
	ExpiresAt int64     `json:"expires_at,omitempty"` // Unix time in milliseconds; 0: never
	Items     [][]byte  `json:"items,omitempty"`
	Scores    []float64 `json:"scores,omitempty"`
	Entries   []entry   `json:"entries,omitempty"`
	Groups    []group   `json:"groups,omitempty"`
}

// entry is an entry of a stream, with its fields and values in turns.
type entry struct {
	ID    string   `json:"id"`
	Items [][]byte `json:"items"`
}

// group is a consumer group of a stream.
type group struct {
	Name      string    `json:"name"`
	Last      string    `json:"last"`
	Consumers []string  `json:"consumers,omitempty"`
	Pending   []pending `json:"pending,omitempty"`
}

// pending is an entry that was delivered and not acknowledged.
type pending struct {
	ID         string `json:"id"`
	Consumer   string `json:"consumer"`
	Deliveries int64  `json:"deliveries"`
	At         int64  `json:"at"` // Unix time of the last delivery in milliseconds
}

// Save writes everything that a Redis stores to a file, in place of an earlier one. Nothing
// else may use the Redis meanwhile.
func Save(ctx context.Context, rdb redis.UniversalClient, path string) error {
	s := snapshot{Version: snapshotVersion}
	keys, err := rdb.Keys(ctx, "*").Result()
	if err != nil {
		return fmt.Errorf("read the embedded Redis: %w", err)
	}
	for _, key := range keys {
		v, err := read(ctx, rdb, key)
		if err != nil {
			return fmt.Errorf("read %s of the embedded Redis: %w", key, err)
		}
		if v.Type != "none" { // it has expired
			s.Values = append(s.Values, v)
		}
	}
	if err := s.write(path); err != nil {
		return fmt.Errorf("save the embedded Redis: %w", err)
	}
	return nil
}

// Load adds what [Save] wrote to an empty Redis. Without such a file, it does nothing.
func Load(ctx context.Context, rdb redis.UniversalClient, path string) error {
	s, err := readSnapshot(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("read %s, which an earlier process saved: %w; remove it to begin without its data", path, err)
	case s.Version != snapshotVersion:
		return fmt.Errorf("%s has version %d, and this kyclink reads version %d; use the kyclink that wrote it, or remove it to begin without its data",
			path, s.Version, snapshotVersion)
	}
	for _, v := range s.Values {
		if err := v.restore(ctx, rdb); err != nil {
			return fmt.Errorf("restore %s from %s: %w; remove the file to begin without its data", v.Key, path, err)
		}
	}
	return nil
}

// write replaces a file as a whole: a failure leaves the earlier one.
func (s snapshot) write(path string) (err error) {
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = file.Close() // closed already after it was written
			_ = os.Remove(file.Name())
		}
	}()
	compressed := gzip.NewWriter(file)
	if err := json.NewEncoder(compressed).Encode(s); err != nil {
		return err
	}
	if err := errors.Join(compressed.Close(), file.Sync(), file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}

func readSnapshot(path string) (s snapshot, err error) {
	file, err := os.Open(path)
	if err != nil {
		return s, err
	}
	defer func() { _ = file.Close() }() // it was only read
	compressed, err := gzip.NewReader(file)
	if err != nil {
		return s, err
	}
	return s, json.NewDecoder(compressed).Decode(&s)
}

// now is the time in milliseconds.
func now() int64 { return time.Now().UnixMilli() }
