package input

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"os"
)

// Duplicates finds ids that occur in more than one row, in bounded memory: it keeps a
// hash of each id in one of several buckets, which spill to temporary files, and
// examines one bucket after the other. Two ids of the same hash would be taken for
// one, which is practically impossible. It is for one goroutine.
type Duplicates struct {
	seed    maphash.Seed
	dir     string // of the files
	buckets [buckets]bucket
}

// bucket holds the entries in a file and, after them, those in memory.
type bucket struct {
	file   *os.File // nil if all entries are in memory
	memory bytes.Buffer
}

const (
	// buckets bounds the memory of one examination to some MiB for tens of millions of
	// rows.
	buckets     = 64
	bucketBytes = 16 << 10 // of a bucket in memory
)

// entrySize is the size of an entry: a hash, the label, and the row's number.
const entrySize = 17

// Duplicate is a row whose id an earlier row has.
type Duplicate struct {
	Label      byte // as given to [Duplicates.Add]
	Row, First int
}

// NewDuplicates creates its files in dir, or in the system's directory for temporary
// files if dir is empty. Below some ten thousand ids there are none.
func NewDuplicates(dir string) *Duplicates { return &Duplicates{seed: maphash.MakeSeed(), dir: dir} }

// Close deletes the files.
func (d *Duplicates) Close() {
	for i := range d.buckets {
		if file := d.buckets[i].file; file != nil {
			_ = file.Close() // it is unlinked already
		}
	}
}

// spill moves a bucket's entries in memory to its file.
func (d *Duplicates) spill(b *bucket) error {
	if b.file == nil {
		file, err := os.CreateTemp(d.dir, ".kyclink-ids-")
		if err == nil {
			err = os.Remove(file.Name()) // it exists until it is closed
		}
		if err != nil {
			return fmt.Errorf("create a temporary file: %w", err)
		}
		b.file = file
	}
	if _, err := b.memory.WriteTo(b.file); err != nil {
		return fmt.Errorf("write a temporary file: %w", err)
	}
	return nil
}

// Add adds the id of a row with a label.
func (d *Duplicates) Add(id string, row int, label byte) error {
	hash := maphash.String(d.seed, id)
	var entry [entrySize]byte
	binary.LittleEndian.PutUint64(entry[:], hash)
	entry[8] = label
	binary.LittleEndian.PutUint64(entry[9:], uint64(row)) //nolint:gosec // rows are numbered from 1
	b := &d.buckets[hash%buckets]
	b.memory.Write(entry[:])
	if b.memory.Len() < bucketBytes {
		return nil
	}
	return d.spill(b)
}

// Each calls found for every row whose id an earlier row has, in no particular order.
func (d *Duplicates) Each(found func(Duplicate)) error {
	for i := range d.buckets {
		b := &d.buckets[i]
		var all io.Reader = &b.memory
		if b.file != nil {
			all = io.MultiReader(io.NewSectionReader(b.file, 0, 1<<62), all)
		}
		if err := eachDuplicate(all, found); err != nil {
			return fmt.Errorf("read a temporary file: %w", err)
		}
	}
	return nil
}

func eachDuplicate(entries io.Reader, found func(Duplicate)) error {
	rows := make(map[uint64]int) // by hash: the first row
	r := bufio.NewReader(entries)
	for {
		var entry [entrySize]byte
		if _, err := io.ReadFull(r, entry[:]); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		hash, row := binary.LittleEndian.Uint64(entry[:]), int(binary.LittleEndian.Uint64(entry[9:])) //nolint:gosec // likewise
		first, repeated := rows[hash]
		if repeated {
			found(Duplicate{entry[8], row, first})
			continue
		}
		rows[hash] = row
	}
}
