//go:build long

package api

const malformedRequests = 10_000 // requests
