// Package failpoint lets the fault suite end a worker at an exact step of its work. It
// works only with the build tag failpoint; in a release build its functions are empty.
//
// With the tag, the environment variable KYCLINK_FAILPOINT arms points, separated by
// commas:
//
//	marked:3          at the third hit of the point "marked" the process kills itself
//	called:2:panic    at the second hit of "called" the handler panics
//	ack:5:error       asynq's fifth acknowledgement fails without being sent
//	ack:5:lost        it is carried out, and its reply is lost
//
// The points of the pipeline are taken, marked, called, recorded, ending and
// passed; those of the feeder fed and dispatched; those of the process
// joined and stopping.
package failpoint
