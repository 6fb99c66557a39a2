package input

// Options configure how a file is read. The zero value chooses by its name and content.
type Options struct {
	// Format is decided by the file's suffix if empty.
	Format Format
	// Delimiter separates the cells of a CSV, an ASCII character; 0 to detect it from
	// the header.
	Delimiter byte
	// Encoding is the name of a text's encoding; UTF-8 if empty. A byte order mark in
	// the text takes precedence.
	Encoding string
	// Sheet is the name of a workbook's sheet; the first one if empty.
	Sheet string
	// Columns maps keys of a request to the names that the file has for them, where
	// these differ.
	Columns map[string]string
	// Exact makes Columns complete: all other columns are data, whatever their names are. It
	// does not matter for NDJSON.
	Exact bool
	// Carry names columns or keys that are data although their names are a request's
	// key, or nearly.
	Carry []string
	// Strict refuses columns and keys that are neither a request's nor of an earlier
	// export.
	Strict bool
	// Uploaded says that a client sent the file: it is not unpacked, as a small one could
	// expand to any size, and errors suggest no flags of a command.
	Uploaded bool
}

// Validate checks the options that do not depend on the file.
func (o Options) Validate() error {
	if o.Encoding == "" {
		return nil
	}
	_, err := lookUpEncoding(o.Encoding)
	return err
}
