package bulk

import (
	"os"

	"github.com/gofrs/flock"
)

// lock takes the lock of a journal, nil where another process has it. The lock
// is on the journal itself, which is never replaced nor removed: the kernel
// lets it go with the process, so that no stale lock file can be left behind.
func lock(path string) (*flock.Flock, error) {
	l := flock.New(path, flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o600))
	held, err := l.TryLock()
	if err != nil || !held {
		return nil, err
	}
	return l, nil
}
