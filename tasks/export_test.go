package tasks

// LinkOf is the conversion of a record, for the tests of the wire format.
var LinkOf = linkOf //nolint:gochecknoglobals // for tests alone
