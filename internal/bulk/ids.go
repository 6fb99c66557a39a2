package bulk

import "hash/maphash"

// ids is a set of application ids, of which it keeps hashes only: with luck
// beyond all measure one id is taken for another.
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
