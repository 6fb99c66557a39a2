package batch

import (
	"github.com/kyclink/kyclink/internal/order"

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

	"github.com/kyclink/kyclink/internal/request"
)

// The requests that rows of a batch joined are another's, and no transition of theirs
// knows of the batch: to count them is to look at each. That costs a header a row, in
// pieces of some hundred, so what was counted holds for joinedShare times as long as it
// took: a thousand rows are counted whenever somebody looks, a million at most every
// minute. A count is of one moment only as far as nothing moves while it is made.
const joinedCacheFactor = 20

// joinedStates is what was counted of a batch, and until when it holds. Whoever asks
// while it is counted waits for that count.
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

// withJoined adds the states of the rows that joined.
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
	// Where the batch was forgotten, the rows are erased with their order.
	counts[Erased] += max(0, b.Joined-counted)
	states.counts, states.until = counts, time.Now().Add(joinedCacheFactor*time.Since(began))
	return b.withJoinedCounts(maps.Clone(counts)), nil
}

// joinedChunks gives how many rows joined of the chunks that have any. A batch that an
// older version imported is looked through for that once.
func (s *Store) joinedChunks(ctx context.Context, b Batch) (map[int]int, error) {
	texts, err := s.rdb.HGetAll(ctx, s.keys.Joined(b.Number)).Result()
	if err != nil {
		return nil, fmt.Errorf("read which rows joined: %w", err)
	}
	chunks, sum := make(map[int]int, len(texts)), 0
	for text, joined := range texts {
		number, err := strconv.Atoi(text)
		if err != nil {
			return nil, fmt.Errorf("chunk %q has rows that joined", text)
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
	for some := range slices.Chunk(fields, 2*pageSize) {
		if err := s.rdb.HSet(ctx, s.keys.Joined(b.Number), some...).Err(); err != nil {
			return nil, fmt.Errorf("keep which rows joined: %w", err)
		}
	}
	return chunks, nil
}

// countJoined counts the rows of some chunks whose requests are not the batch's own.
// Those that are not kept any more are erased.
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
		pipe.Ping(ctx) // there may be no id
		for i, v := range texts {
			text, _ := v.(string)
			for _, line := range order.ParseChunk(text) {
				if line.ApplicationID != "" {
					headers[i] = append(headers[i], pipe.GetRange(ctx, s.keys.Record(line.ApplicationID), 0, request.HeaderLen-1))
				}
			}
		}
		return nil
	}); err != nil {
		return fmt.Errorf("read which states rows joined in: %w", err)
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

// elsewhere is the state of a request that is not the batch's own, "" for others. One
// that only a newer version can read has not ended as far as anybody can say.
func joinedState(header string, batch int) request.State {
	if header == "" {
		return ""
	}
	r, err := request.Parse("-", []byte(header))
	if err == nil && r.Batch == batch {
		return ""
	}
	return cmp.Or(r.State, request.Waiting)
}
