package batch

import (
	"sync"
	"time"
)

// namesFor is how long a batch's name is remembered: the number of a batch that was
// deleted is another's after a day at the earliest.
const namesFor = time.Hour

// Names remembers the names of batches by number. It is safe for concurrent use, and
// its zero value is ready.
type Names struct{ known sync.Map }

type remembered struct {
	name  string
	until time.Time
}

// Load gives a name that was stored lately.
func (n *Names) Load(number int) (name string, ok bool) {
	v, ok := n.known.Load(number)
	if !ok || !time.Now().Before(v.(remembered).until) {
		return "", false
	}
	return v.(remembered).name, true
}

// Store remembers a name.
func (n *Names) Store(number int, name string) {
	n.known.Store(number, remembered{name, time.Now().Add(namesFor)})
}

// Delete forgets a name.
func (n *Names) Delete(number int) { n.known.Delete(number) }
