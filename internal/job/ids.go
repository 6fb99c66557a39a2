package job

import "hash/maphash"

// ids is a set of application ids. It stores hashes only; that two ids have the same
// one is practically impossible.
type ids struct {
	seed   maphash.Seed
	hashes map[uint64]struct{}
}

func newIDs() ids { return ids{maphash.MakeSeed(), map[uint64]struct{}{}} }

func (s ids) add(id string) { s.hashes[maphash.String(s.seed, id)] = struct{}{} }

func (s ids) has(id string) bool {
	_, ok := s.hashes[maphash.String(s.seed, id)]
	return ok
}

func (s ids) len() int { return len(s.hashes) }
