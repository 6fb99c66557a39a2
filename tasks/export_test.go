package tasks

// LinkOf exports linkOf to the tests of the wire format.
var LinkOf = linkOf //nolint:gochecknoglobals // for tests only
