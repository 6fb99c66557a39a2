//go:build long

package api

const malformed = 10_000 // requests
