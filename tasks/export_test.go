package tasks

// These export functions to tests.
//
//nolint:gochecknoglobals // for tests only
var (
	LinkOf        = linkOf // to those of the wire format
	IsPlainURL    = isPlainURL
	IsPlainObject = isPlainObject
)
