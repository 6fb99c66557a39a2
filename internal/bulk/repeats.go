package bulk

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"os"

	"github.com/kyclink/kyclink/tasks"
)

// repeats finds ids that were added more than once, with memory that does not grow:
// it keeps a hash of each in one of several piles, which are temporary files once
// there is much in them, and looks at one pile after the other. With luck beyond all
// measure one id is taken for another.
type repeats struct {
	seed  maphash.Seed
	dir   string // of the files
	piles [repeatPiles]pile
}

// pile is what is in memory after what is in a file.
type pile struct {
	file *os.File // nil where all of it is in memory
	rest bytes.Buffer
}

const (
	// repeatPiles keeps what is looked at at a time to some MiB for files of tens of
	// millions of rows.
	repeatPiles = 64
	pileRest    = 16 << 10 // bytes of a pile that are in memory at most
)

// repeatSize is a hash, the first letter of how, and the row's number.
const repeatSize = 17

// repeat is an id that was added before, and for which row; how is what was said of
// it this time.
type repeat struct {
	how        byte
	row, first int
}

// newRepeats makes its files in dir, or where temporary files usually are if it is
// empty; there are none for some ten thousand ids.
func newRepeats(dir string) *repeats { return &repeats{seed: maphash.MakeSeed(), dir: dir} }

func (r *repeats) close() {
	for i := range r.piles {
		if file := r.piles[i].file; file != nil {
			_ = file.Close() // it is gone with that
		}
	}
}

// spill moves what a pile has in memory to its file.
func (r *repeats) spill(p *pile) error {
	if p.file == nil {
		file, err := os.CreateTemp(r.dir, ".kyclink-ids-")
		if err == nil {
			err = os.Remove(file.Name()) // it lives until it is closed
		}
		if err != nil {
			return fmt.Errorf("make a temporary file: %w", err)
		}
		p.file = file
	}
	if _, err := p.rest.WriteTo(p.file); err != nil {
		return fmt.Errorf("write a temporary file: %w", err)
	}
	return nil
}

func (r *repeats) add(id string, row int, how tasks.Acceptance) error {
	hash := maphash.String(r.seed, id)
	var entry [repeatSize]byte
	binary.LittleEndian.PutUint64(entry[:], hash)
	binary.LittleEndian.PutUint64(entry[9:], uint64(row)) //nolint:gosec // rows are numbered from 1
	if how != "" {
		entry[8] = how[0]
	}
	p := &r.piles[hash%repeatPiles]
	p.rest.Write(entry[:])
	if p.rest.Len() < pileRest {
		return nil
	}
	return r.spill(p)
}

// each gives every one that was added before, in no order.
func (r *repeats) each(found func(repeat)) error {
	for i := range r.piles {
		p := &r.piles[i]
		var all io.Reader = &p.rest
		if p.file != nil {
			all = io.MultiReader(io.NewSectionReader(p.file, 0, 1<<62), all)
		}
		if err := again(all, found); err != nil {
			return fmt.Errorf("read a temporary file: %w", err)
		}
	}
	return nil
}

func again(pile io.Reader, found func(repeat)) error {
	seen := make(map[uint64]int) // the row
	text := bufio.NewReader(pile)
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
