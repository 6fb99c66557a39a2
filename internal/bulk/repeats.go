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

// repeatSize is a hash and the first letter of how.
const repeatSize = 9

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

func (r *repeats) add(id string, how tasks.How) error {
	hash := maphash.String(r.seed, id)
	var entry [repeatSize]byte
	binary.LittleEndian.PutUint64(entry[:], hash)
	entry[8] = how[0]
	if _, err := r.bufs[hash%repeatFiles].Write(entry[:]); err != nil {
		return fmt.Errorf("write a temporary file: %w", err)
	}
	return nil
}

// each tells how many were added that had been before, of each kind.
func (r *repeats) each(tell func(how tasks.How, n int)) error {
	found := make(map[byte]int)
	for i, file := range r.files {
		if err := r.bufs[i].Flush(); err != nil {
			return fmt.Errorf("write a temporary file: %w", err)
		}
		if err := again(io.NewSectionReader(file, 0, 1<<62), found); err != nil {
			return fmt.Errorf("read a temporary file: %w", err)
		}
	}
	for _, how := range []tasks.How{tasks.Fresh, tasks.Again, tasks.Joined} {
		if n := found[how[0]]; n > 0 {
			tell(how, n)
		}
	}
	return nil
}

func again(file io.Reader, found map[byte]int) error {
	seen := make(map[uint64]struct{})
	text := bufio.NewReader(file)
	for {
		var entry [repeatSize]byte
		if _, err := io.ReadFull(text, entry[:]); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		hash := binary.LittleEndian.Uint64(entry[:])
		if _, repeated := seen[hash]; repeated {
			found[entry[8]]++
		}
		seen[hash] = struct{}{}
	}
}
