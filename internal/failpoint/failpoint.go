// Package failpoint lets the fault suite end a worker at one step of its work,
// which no signal from outside can hit. It is there with the build tag failpoint
// only: in a release build its functions are empty and leave nothing behind.
//
// With the tag, the environment variable KYCLINK_FAILPOINT arms points, separated
// by commas:
//
//	marked:3          at the third hit of the point "marked" the process kills itself
//	called:2:panic    at the second hit of "called" the handler panics
//	ack:5:error       asynq's fifth acknowledgement fails, and was not sent
//	ack:5:lost        it was carried out, and its reply is lost
//
// The points of the pipeline are taken, marked, called, recorded, ending and
// passed; those of the feeder fed and dispatched; those of the process
// joined and stopping.
package failpoint
