package fault

import "time"

// MaxRetryAfter is the longest that FaceKi's Retry-After is obeyed: by the gate, and by
// whoever waits for a token. After that FaceKi is asked again.
const MaxRetryAfter = 10 * time.Minute
