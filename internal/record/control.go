package record

import "fmt"

// Cancelling is the sorted set of the numbers of cancelled batches whose requests
// have not all ended, by when they were cancelled.
func (k Keys) Cancelling() string { return k.Tag() + ":cancelling" }

// Off is the list of what was to be fed again when the batch was cancelled.
func (k Keys) Off(number int) string { return fmt.Sprintf("%s:off:%d", k.Tag(), number) }

// Paused says that the turn's batch is: the request was put back before the
// others of its batch, and the task stands for nothing any more.
const Paused Verdict = "paused"

// StateOf is the state that a header has the letter for, "" for no such letter.
func StateOf(letter byte) State { return stateLetters[letter] }
