package batch

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/order"
	"github.com/kyclink/kyclink/internal/request"
)

// joinedCacheFactor limits the cost of counting the states of joined rows. Their requests
// belong to other batches, whose transitions do not know of this one, so that counting reads
// the header of each request. A result is therefore cached for this many times the duration
// of the count: a thousand rows are counted for every reader, a million at most once a
// minute. Requests may change state during the count.
const joinedCacheFactor = 20

// joinedStates caches the states of the joined rows of a batch. A reader waits for a count
// that is in progress.
type joinedStates struct {
	mu     sync.Mutex
	counts map[request.State]int
	until  time.Time
}

func noStates() map[request.State]int {
	counts := map[request.State]int{Erased: 0}
	for _, state := range request.States {
		counts[state] = 0
	}
	return counts
}

// withJoined adds the states of the joined rows to b.
func (s *Store) withJoined(ctx context.Context, b Batch) (Batch, error) {
	if b.Joined == 0 {
		return b, nil
	}
	known, _ := s.joined.LoadOrStore(b.Number, &joinedStates{})
	states := known.(*joinedStates)
	states.mu.Lock()
	defer states.mu.Unlock()
	if now := b.withJoinedCounts(maps.Clone(states.counts)); now.Joined == b.Joined && time.Now().Before(states.until) {
		return now, nil
	}
	began := time.Now()
	chunks, err := s.joinedChunks(ctx, b)
	if err != nil {
		return b, err
	}
	counts := noStates()
	numbers := slices.Sorted(maps.Keys(chunks))
	for page := range slices.Chunk(numbers, orderPage) {
		if err := s.countJoined(ctx, b.Number, page, chunks, counts); err != nil {
			return b, err
		}
	}
	counted := 0
	for _, n := range counts {
		counted += n
	}
	// The order of a forgotten batch is erased, and its rows with it.
	counts[Erased] += max(0, b.Joined-counted)
	states.counts, states.until = counts, time.Now().Add(joinedCacheFactor*time.Since(began))
	return b.withJoinedCounts(maps.Clone(counts)), nil
}

// joinedChunks returns the number of joined rows of each chunk that has any. For a batch that
// an older version imported, it reads all chunks once and stores the numbers.
func (s *Store) joinedChunks(ctx context.Context, b Batch) (map[int]int, error) {
	texts, err := s.rdb.HGetAll(ctx, s.keys.Joined(b.Number)).Result()
	if err != nil {
		return nil, fmt.Errorf("read the joined rows: %w", err)
	}
	chunks, sum := make(map[int]int, len(texts)), 0
	for text, joined := range texts {
		number, err := strconv.Atoi(text)
		if err != nil {
			return nil, fmt.Errorf("read the joined rows: %q is not a chunk number", text)
		}
		chunks[number] = parseCount(joined)
		sum += chunks[number]
	}
	if sum >= b.Joined {
		return chunks, nil
	}
	clear(chunks)
	var fields []any
	for page, err := range s.Chunks(ctx, b.Number) {
		if err != nil {
			return nil, err
		}
		for _, c := range page {
			if first, _, _ := strings.Cut(c.Text, "\n"); first != "0" {
				chunks[c.Number] = parseCount(first)
				fields = append(fields, c.Number, first)
			}
		}
	}
	for part := range slices.Chunk(fields, 2*pageSize) {
		if err := s.rdb.HSet(ctx, s.keys.Joined(b.Number), part...).Err(); err != nil {
			return nil, fmt.Errorf("store the joined rows: %w", err)
		}
	}
	return chunks, nil
}

// countJoined counts the states of the joined rows of some chunks. Rows whose record no
// longer exists count as erased.
func (s *Store) countJoined(ctx context.Context, number int, numbers []int, joined map[int]int, counts map[request.State]int) error {
	names := make([]string, len(numbers))
	for i, n := range numbers {
		names[i] = strconv.Itoa(n)
	}
	texts, err := s.rdb.HMGet(ctx, s.keys.Order(number), names...).Result()
	if err != nil {
		return fmt.Errorf("read the order of batch %d: %w", number, err)
	}
	headers := make([][]*redis.StringCmd, len(numbers))
	if _, err := s.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.Ping(ctx) // an empty pipeline is an error
		for i, v := range texts {
			text, _ := v.(string)
			for _, row := range order.ParseChunk(text) {
				if row.ApplicationID != "" {
					headers[i] = append(headers[i], pipe.GetRange(ctx, s.keys.Record(row.ApplicationID), 0, request.HeaderLen-1))
				}
			}
		}
		return nil
	}); err != nil {
		return fmt.Errorf("read the states of joined rows: %w", err)
	}
	for i, n := range numbers {
		left := joined[n]
		for _, header := range headers[i] {
			if state := joinedState(header.Val(), number); state != "" && left > 0 {
				counts[state]++
				left--
			}
		}
		counts[Erased] += left
	}
	return nil
}

// joinedState returns the state of a request that belongs to another batch, "" for the
// batch's own. An unreadable record counts as waiting, since it may not have ended.
func joinedState(header string, batch int) request.State {
	if header == "" {
		return ""
	}
	r, err := request.Peek("-", []byte(header))
	if err == nil && r.Batch == batch {
		return ""
	}
	return cmp.Or(r.State, request.Waiting)
}
