package bulk

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"os"

	"github.com/kyclink/kyclink/tasks"
)

// repeats finds ids that were added more than once, with memory that does not
// grow: it keeps a hash of each in one of several temporary files, and looks at
// one file after the other. With luck beyond all measure one id is taken for
// another.
type repeats struct {
	seed  maphash.Seed
	files [repeatFiles]*os.File
	bufs  [repeatFiles]*bufio.Writer
}

// repeatFiles keeps what is looked at at a time to some MiB for files of tens of
// millions of rows.
const repeatFiles = 64

// repeatSize is a hash, the first letter of how, and the row's number.
const repeatSize = 17

// repeat is an id that was added before, and for which row; how is what was said of
// it this time.
type repeat struct {
	how        byte
	row, first int
}

func newRepeats() (*repeats, error) {
	r := &repeats{seed: maphash.MakeSeed()}
	for i := range r.files {
		file, err := os.CreateTemp("", "kyclink-ids-")
		if err == nil {
			err = os.Remove(file.Name()) // it lives until it is closed
		}
		if err != nil {
			r.close()
			return nil, fmt.Errorf("make a temporary file: %w", err)
		}
		r.files[i], r.bufs[i] = file, bufio.NewWriterSize(file, 16<<10)
	}
	return r, nil
}

func (r *repeats) close() {
	for _, file := range r.files {
		if file != nil {
			_ = file.Close() // it is gone with that
		}
	}
}

func (r *repeats) add(id string, row int, how tasks.How) error {
	hash := maphash.String(r.seed, id)
	var entry [repeatSize]byte
	binary.LittleEndian.PutUint64(entry[:], hash)
	binary.LittleEndian.PutUint64(entry[9:], uint64(row)) //nolint:gosec // rows are numbered from 1
	if how != "" {
		entry[8] = how[0]
	}
	if _, err := r.bufs[hash%repeatFiles].Write(entry[:]); err != nil {
		return fmt.Errorf("write a temporary file: %w", err)
	}
	return nil
}

// each gives every one that was added before, in no order.
func (r *repeats) each(found func(repeat)) error {
	for i, file := range r.files {
		if err := r.bufs[i].Flush(); err != nil {
			return fmt.Errorf("write a temporary file: %w", err)
		}
		if err := again(io.NewSectionReader(file, 0, 1<<62), found); err != nil {
			return fmt.Errorf("read a temporary file: %w", err)
		}
	}
	return nil
}

func again(file io.Reader, found func(repeat)) error {
	seen := make(map[uint64]int) // the row
	text := bufio.NewReader(file)
	for {
		var entry [repeatSize]byte
		if _, err := io.ReadFull(text, entry[:]); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		hash, row := binary.LittleEndian.Uint64(entry[:]), int(binary.LittleEndian.Uint64(entry[9:])) //nolint:gosec // likewise
		first, repeated := seen[hash]
		if repeated {
			found(repeat{entry[8], row, first})
			continue
		}
		seen[hash] = row
	}
}
