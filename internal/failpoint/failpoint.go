// Package failpoint lets the fault suite interrupt a process at an exact step of its work.
// It works only with the build tag failpoint; in a release build its functions do nothing.
//
// With the tag, the environment variable KYCLINK_FAILPOINT sets failpoints, separated by
// commas:
//
//	admitted:3        the process kills itself at the third hit of "admitted"
//	called:2:panic    the handler panics at the second hit of "called"
//	ack:5:error       asynq's fifth acknowledgement fails without being sent
//	ack:5:lost        asynq's fifth acknowledgement is sent, but its reply is lost
//
// KYCLINK_FAILPOINT_PACE divides the times after which dead workers and lost turns are
// recovered.
//
// The failpoints of the worker's pipeline are taken, admitted, called, recorded, ending and
// released; those of the feeder are fed and dispatched; those of callbacks are opened,
// dispatched, posting and posted; those of the process are joined and stopping.
package failpoint
